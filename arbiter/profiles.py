"""Model profiles: what has to be served, with the numbers that decide where it fits.

A profile is a YAML file in templates/profiles or in the user's profiles folder. The dataclasses
below are the schema, once: msgspec checks them in milliseconds on every start; only when that
fails is pydantic imported to report every error at once, with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from arbiter.errors import ProfileError
from arbiter.resources import resource_dir

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?")
REPOSITORY = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?"  # owner/model on the hub
    r"|(/|(s3|gs|az)://)[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
)


BUCKET = re.compile(r"(s3|gs|az)://")


class Load(StrEnum):
    """How weights get from a bucket onto a machine."""

    STREAM = "stream"  # vLLM reads the bucket itself, with the Run:ai streamer
    MOUNT = "mount"  # SkyPilot mounts the bucket, and vLLM reads files


class Quantization(StrEnum):
    """How the weights are stored."""

    BF16 = "bf16"
    FP8 = "fp8"
    AWQ = "awq"
    MXFP4 = "mxfp4"


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of the network, from its config.json.

    Attributes:
        parameters_b: all parameters, in units of 1e9.
        active_parameters_b: those used for one token (mixture of experts); None when all are.
        layers, hidden, heads, kv_heads, head_dim, vocab: as the field names them.
        tied_embeddings: input and output embeddings are one matrix.
        sliding_window: tokens kept by the sliding layers, or None.
        sliding_layers: how many of the layers slide.
        experts, active_experts: of a mixture; None otherwise.
    """

    parameters_b: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    active_parameters_b: float | None = None
    tied_embeddings: bool = False
    sliding_window: int | None = None
    sliding_layers: int = 0
    experts: int | None = None
    active_experts: int | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to store the weights.

    Attributes:
        repository: the model's id on the hub, or a path or bucket that vLLM can load.
        revision: a commit of that repository, or None for its newest.
        weights_gib: measured size once loaded; None computes it from the parameters.
        region: of a bucket: where it stands ("eu-central-1", or "scaleway/fr-par"). The service's
            rule is asked of that place, too; one that is not named or not known is refused.
        load: of a bucket: how its weights are read; stream unless said otherwise.
    """

    quantization: Quantization
    repository: str
    revision: str | None = None
    weights_gib: float | None = None
    region: str | None = None
    load: Load | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """The load that a replica is sized for.

    Attributes:
        context: longest sequence in tokens (--max-model-len).
        concurrency: sequences decoded together at most (--max-num-seqs).
        input_tokens, output_tokens: mean per request; they set the cost per million tokens.
        demand_tokens_per_s: output tokens per second that a replica is asked for at its busiest, so
            that nobody pays for speed that is not asked for; None: as counted, else full load.
    """

    context: int = 8192
    concurrency: int = 64
    input_tokens: int = 1024
    output_tokens: int = 256
    demand_tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """How the server is started.

    Attributes:
        template: file templates/tasks/<template>.yaml.j2, or one of that name in the user's
            templates folder.
        port: where the server listens on its machine.
        flags: further `vllm serve` flags, name without dashes -> value; true is a bare flag.
        env: environment of the server; no secrets here.
        secrets: names of secrets that the server needs, read from arbiter's own environment
            ("HF_TOKEN").
        gpu_memory_utilization: vLLM's share of the GPU's memory.
        drain_s: seconds that a server may take to finish its streams (--shutdown-timeout).
        start_s: seconds after which a server that does not answer counts as failed.
        disk_gib: disk of the machine.
        images: machine images with everything installed, in SkyPilot's words ("ami-0abc"), by
            "provider/region" or, for images that hold everywhere, by provider.
    """

    template: str = "vllm"
    port: int = 8000
    flags: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    gpu_memory_utilization: float = 0.92
    drain_s: int = 120
    start_s: int = 1800
    disk_gib: int = 256
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """A model to serve.

    Attributes:
        name: what the user types; lower case, digits, dots and dashes, at most 40 characters.
        variants: at least one; the cheapest that fits is chosen per offer.
        gpus: the only GPUs allowed (vocabulary of arbiter.gpus); empty allows all that fit.
        licence, gated: as the hub states them; for people.
        quality_floor: the fewest bits that this model may be served in, in the place of the
            policy's; None: the policy decides.
    """

    name: str
    description: str
    architecture: Architecture
    variants: tuple[Variant, ...]
    workload: Workload = Workload()
    serving: Serving = Serving()
    gpus: tuple[str, ...] = ()
    licence: str = ""
    gated: bool = False
    quality_floor: Quantization | None = None


def load_profile(name: str, search_path: Sequence[Path] = ()) -> Profile:
    """The profile of that name.

    Args:
        name: as the user typed it.
        search_path: folders of the user's own profiles; the first that has the file wins, and
            arbiter's own profiles come last.

    Raises:
        ProfileError: there is no such profile, or its file is malformed; then the message has one
            line, with file and line number, for every problem in it.
    """
    return read_profile(find_profile(name, search_path))


def find_profile(name: str, search_path: Sequence[Path] = ()) -> Path:
    """The file of the profile of that name; the arguments are `load_profile`'s.

    Raises:
        ProfileError: there is no such profile.
    """
    folders = _folders(search_path)
    if NAME.fullmatch(name):
        for folder in folders:
            path = folder / f"{name}.yaml"
            if path.is_file():
                return path
    raise _unknown(name, folders)


def profile_names(search_path: Sequence[Path] = ()) -> tuple[str, ...]:
    """The names of all profiles that `load_profile` would find, sorted."""
    files = (path for folder in _folders(search_path) for path in folder.glob("*.yaml"))
    return tuple(sorted({path.stem for path in files if NAME.fullmatch(path.stem)}))


def read_profile(path: Path) -> Profile:
    """The profile in a file.

    Raises:
        ProfileError: as of load_profile.
    """
    import msgspec

    from arbiter import profile_checks, schema_errors, strict_yaml
    from arbiter.typed import convert

    try:
        document = strict_yaml.read(path)
    except strict_yaml.Unreadable as error:
        raise ProfileError(error.message, error.hint) from None
    problems = [
        *document.problems,
        *schema_errors.unknown_keys(document.data, Profile),
        *profile_checks.problems(document.data, path.stem),
    ]
    try:
        profile = convert(document.data, Profile)
    except msgspec.ValidationError as error:
        found = schema_errors.type_problems(document.data, Profile)
        problems += found or [strict_yaml.Problem((), str(error))]
    if problems:
        raise ProfileError(document.report(problems))
    return profile


def _folders(search_path: Sequence[Path]) -> list[Path]:
    return [*search_path, resource_dir("templates") / "profiles"]


def _unknown(name: str, folders: Sequence[Path]) -> ProfileError:
    from difflib import get_close_matches

    known = profile_names(folders[:-1])
    near = get_close_matches(name.lower(), known, n=3)
    guess = f"did you mean {' or '.join(near)}" if near else f"there are {', '.join(known)}"
    looked = ", ".join(str(folder) for folder in folders)
    return ProfileError(
        f"there is no profile {name!r}", f"{guess}; a profile is a file NAME.yaml in {looked}"
    )
