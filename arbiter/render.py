"""Renders the SkyPilot task of a launch. Every value is escaped for the place where it stands.

Two filters, one for each kind of place: `yaml` for a YAML scalar, `sh` for a word of a shell
script. A value that neither can carry is refused, never mended.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbiter.domain import Offer, Purchase
from arbiter.errors import TemplateRefused
from arbiter.executors import sky_places
from arbiter.gpus import GPUS
from arbiter.notices import is_watched, notice_port
from arbiter.profiles import Profile, Variant
from arbiter.resources import resource_dir
from arbiter.staging import is_streamed, mounts, source

if TYPE_CHECKING:
    from jinja2 import Environment

VLLM_VERSION = "0.33.0"
"""Pinned: flags, kernels and metrics change between releases; profiles are checked for this one."""

API_KEY = "ARBITER_API_KEY"
"""The secret that every task needs: the key that the server asks of its clients."""

LABEL_LENGTH = 63
_LABEL = re.compile(r"([a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?)?")


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """What a task is rendered from.

    Attributes:
        variant: the weights to serve.
        offer: where and what; its GPU count is the number of ways the model is split.
        cluster: becomes the task's name.
        owner, service, cluster, tags: become labels of the machine.
    """

    profile: Profile
    variant: Variant
    offer: Offer
    cluster: str
    owner: str
    service: str
    tags: Mapping[str, str]


def render_task(inputs: TaskInputs, search_path: Sequence[Path] = ()) -> str:
    """The SkyPilot task as YAML text, without any secret's value.

    Args:
        search_path: the user's template folders. The first that has tasks/NAME.yaml.j2 or
            NAME.yaml.j2 wins, NAME being the profile's `serving.template`; arbiter's own come last.

    Raises:
        TemplateRefused: a value cannot be carried, there is no such template, or it is wrong.
    """
    from jinja2 import TemplateError, TemplateNotFound, TemplateSyntaxError

    values = _values(inputs)
    for name, value in _named(values):
        _refuse_unprintable(name, value)
    folders = [folder for base in search_path for folder in (base / "tasks", base)]
    folders.append(resource_dir("templates") / "tasks")
    file = f"{inputs.profile.serving.template}.yaml.j2"
    try:
        return _environment(folders).get_template(file).render(values)
    except TemplateNotFound as error:
        looked = ", ".join(str(folder) for folder in folders)
        raise TemplateRefused(f"there is no template {error.name}", f"looked in {looked}") from None
    except TemplateSyntaxError as error:
        raise TemplateRefused(f"{error.filename or file}:{error.lineno}: {error.message}") from None
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, OSError) as error:
        raise TemplateRefused(f"the template {file} failed: {error}") from error


def as_yaml(value: str | float | bool | None) -> str:
    """A YAML scalar that reads back as the same value.

    JSON is YAML but for characters beyond the first 65,536, which YAML escapes in its own way.

    Raises:
        TemplateRefused: an unprintable character is in it.
    """
    _refuse_unprintable("a value", value)
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\U{ord(found.group()):08x}", text)


def as_word(value: str | float) -> str:
    """One word of a shell script, whatever is in it.

    Raises:
        TemplateRefused: an unprintable character is in it.
    """
    _refuse_unprintable("a word", value)
    return shlex.quote(str(value))


def label(text: str) -> str:
    """A value that every cloud takes as a label: at most 63 of a-z, 0-9, dash and underscore.

    Google Cloud's rule for values, with Kubernetes' one for the ends, is the strictest that
    SkyPilot checks. What is lost in the change is made up for by a short hash, so that two tags
    stay two.
    """
    if _LABEL.fullmatch(text):
        return text
    plain = re.sub(r"[^a-z0-9_-]", "-", text.lower()).lstrip("_-")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[: LABEL_LENGTH - 9]}-{digest}".lstrip("-")


def arguments(inputs: TaskInputs) -> list[str]:
    """The words after `vllm serve REPOSITORY`.

    vLLM reads the quantization from the weights' own configuration, so no flag says it.
    """
    profile, serving, workload = inputs.profile, inputs.profile.serving, inputs.profile.workload
    given: dict[str, str | int | float | bool] = {
        "served-model-name": profile.name,
        "host": "0.0.0.0",  # noqa: S104  inside the machine; the port is opened by the cloud's rules
        "port": serving.port,
        "max-model-len": workload.context,
        "max-num-seqs": workload.concurrency,
        "gpu-memory-utilization": serving.gpu_memory_utilization,
        "tensor-parallel-size": inputs.offer.gpu_count,
        "shutdown-timeout": serving.drain_s,
    }
    if inputs.variant.revision:
        given["revision"] = inputs.variant.revision
    if is_streamed(inputs.variant):
        given["load-format"] = "runai_streamer"
    return [
        word for flag, value in {**serving.flags, **given}.items() for word in _flag(flag, value)
    ]


def _flag(flag: str, value: str | float | bool) -> tuple[str, ...]:
    if value is True:
        return (f"--{flag}",)
    if value is False:
        return (f"--no-{flag}",)
    text = str(value)
    # A value that begins with a dash would be read as the next flag.
    return (f"--{flag}={text}",) if text.startswith("-") else (f"--{flag}", text)


def _values(inputs: TaskInputs) -> dict[str, Any]:
    """What a template may name."""
    profile, offer = inputs.profile, inputs.offer
    gpu = GPUS.get(offer.gpu)
    return {
        "name": inputs.cluster,
        "infra": _infra(offer),
        "instance_type": offer.instance_type,
        "accelerators": f"{gpu.skypilot}:{offer.gpu_count}" if gpu else None,
        "use_spot": offer.purchase is Purchase.SPOT,
        "provider": offer.provider,
        "port": profile.serving.port,
        "notice_port": notice_port(profile.serving.port),
        "watcher": _watcher() if is_watched(offer) else None,
        "disk_gib": profile.serving.disk_gib,
        "labels": _labels(inputs),
        "envs": {"VLLM_NO_USAGE_STATS": "1", **profile.serving.env},
        "secrets": list(dict.fromkeys((API_KEY, *profile.serving.secrets))),
        "image": _image(inputs),
        "mounts": mounts(inputs.variant),
        "vllm_version": VLLM_VERSION,
        "vllm": f"vllm[runai]=={VLLM_VERSION}"
        if is_streamed(inputs.variant)
        else f"vllm=={VLLM_VERSION}",
        "model": profile.name,
        "repository": source(inputs.variant),
        "arguments": arguments(inputs),
    }


def _image(inputs: TaskInputs) -> str | None:
    """The machine image for the offer's place, the nearest that the profile names."""
    images, offer = inputs.profile.serving.images, inputs.offer
    return images.get(f"{offer.provider}/{offer.region}") or images.get(offer.provider)


@cache
def _watcher() -> str:
    """The program that runs beside the server, in base64: it has more than one line."""
    source = (Path(__file__).parent / "executors" / "watcher.py").read_bytes()
    return b64encode(source).decode()


def _infra(offer: Offer) -> str:
    """The place in SkyPilot's words; to the region on AWS, whose zones the executor names."""
    try:
        return sky_places.infra(offer)
    except ValueError as error:
        raise TemplateRefused(str(error)) from error


def _labels(inputs: TaskInputs) -> dict[str, str]:
    for key, value in inputs.tags.items():
        _refuse_unprintable(f"the tag {key!a}", f"{key}={value}")
    own = {
        "arbiter-owner": label(inputs.owner),
        "arbiter-service": label(inputs.service),
        "arbiter-cluster": label(inputs.cluster),
    }
    tags = {label(f"tag-{key}"): label(value) for key, value in inputs.tags.items()}
    return {**tags, **own}


def _environment(folders: Sequence[Path]) -> Environment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(yaml=as_yaml, sh=as_word)
    return environment


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text among the values, with the name of its place."""
    for name, value in values.items():
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"{name}: {key!a}", f"{key}={each}") for key, each in value.items())
        elif isinstance(value, list):
            yield from ((name, each) for each in value)


def _refuse_unprintable(name: str, value: object) -> None:
    text = str(value)
    if not text.isprintable():
        found = next(each for each in text if not each.isprintable())
        raise TemplateRefused(
            f"{name} holds the unprintable character {found!a}: {text[:40]!a}",
            "take it out of the profile or the tag",
        )
