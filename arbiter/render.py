"""Renders the SkyPilot task of a launch. Every value is escaped for the place where it stands.

Two filters, one for each kind of place: `yaml` for a YAML scalar, `sh` for a word of a shell
script. A value that neither can carry is refused, never mended.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbiter.domain import Offer, Purchase
from arbiter.errors import TemplateRefused
from arbiter.gpus import GPUS
from arbiter.profiles import Profile, Variant
from arbiter.resources import resource_dir

VLLM_VERSION = "0.33.0"
"""Pinned: flags, kernels and metrics change between releases; the profiles are sized for this."""

LABEL_LENGTH = 63
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """What a task is rendered from.

    Attributes:
        variant: the weights to serve.
        offer: where; an AWS zone id is left to the executor, since SkyPilot pins by zone name.
        cluster, owner, service, tags: become labels of the machine.
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
        search_path: the user's template folders; the first that has the template wins.

    Raises:
        TemplateRefused: a value cannot be carried, or the template itself is wrong.
    """
    from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    folders = [folder for base in search_path for folder in (base / "tasks", base)]
    environment = SandboxedEnvironment(
        loader=FileSystemLoader([*folders, resource_dir("templates") / "tasks"]),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(yaml=as_yaml, sh=as_word)
    name = f"{inputs.profile.serving.template}.yaml.j2"
    try:
        return environment.get_template(name).render(_context(inputs))
    except TemplateError as error:
        raise TemplateRefused(f"the template {name} is wrong: {error}") from error


def as_yaml(value: Any) -> str:
    """A YAML scalar that reads back as the same value: JSON is YAML.

    Raises:
        TemplateRefused: a control character is in it.
    """
    _refuse_control(value)
    return json.dumps(value, ensure_ascii=True)


def as_word(value: Any) -> str:
    """One word of a shell script, whatever is in it.

    Raises:
        TemplateRefused: a control character is in it.
    """
    _refuse_control(value)
    return shlex.quote(str(value))


def label(text: str) -> str:
    """A value that every cloud takes as a label: lower case, digits, `_-`, at most 63.

    What is lost in the change is made up for by a short hash, so that two tags stay two.
    """
    plain = re.sub(r"[^a-z0-9_-]", "-", text.lower())
    if plain == text and len(text) <= LABEL_LENGTH:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[: LABEL_LENGTH - 9]}-{digest}"


def _refuse_control(value: Any) -> None:
    found = _CONTROL.search(str(value))
    if found:
        raise TemplateRefused(
            f"a value holds the control character {found.group(0)!a}: {str(value)[:40]!a}",
            "take it out of the profile or the tag",
        )


def _context(inputs: TaskInputs) -> dict[str, Any]:
    profile, offer = inputs.profile, inputs.offer
    gpu = GPUS.get(offer.gpu)
    return {
        "name": inputs.cluster,
        "infra": infra(offer),
        "instance_type": offer.instance_type,
        "accelerators": f"{gpu.skypilot}:{offer.gpu_count}" if gpu else None,
        "use_spot": offer.purchase is Purchase.SPOT,
        "port": profile.serving.port,
        "disk_gib": profile.serving.disk_gib,
        "labels": _labels(inputs),
        "envs": dict(profile.serving.env),
        "secrets": ["ARBITER_API_KEY", *profile.serving.secrets],
        "vllm_version": VLLM_VERSION,
        "repository": inputs.variant.repository,
        "arguments": arguments(inputs),
        "model": profile.name,
    }


def infra(offer: Offer) -> str:
    """SkyPilot's own form of a place: cloud, region, and the zone where its name is known."""
    zone = None if offer.provider == "aws" else offer.zone
    return "/".join(part for part in (offer.provider, offer.region, zone) if part)


def arguments(inputs: TaskInputs) -> list[str]:
    """The words after `vllm serve REPOSITORY`, but for the API key.

    The flags are those of vLLM 0.33; quantization is read by vLLM from the weights' own config.
    """
    profile, serving, workload = inputs.profile, inputs.profile.serving, inputs.profile.workload
    given: dict[str, Any] = {
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
    words = []
    for flag, value in {**given, **serving.flags}.items():
        if value is True:
            words.append(f"--{flag}")
        elif value is False:
            words.append(f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return words


def _labels(inputs: TaskInputs) -> dict[str, str]:
    own = {
        "arbiter-owner": inputs.owner,
        "arbiter-service": inputs.service,
        "arbiter-cluster": inputs.cluster,
    }
    tags = {label(f"tag-{key}"): label(value) for key, value in inputs.tags.items()}
    return {**tags, **own}
