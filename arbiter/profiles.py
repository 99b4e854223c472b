"""Model profiles: what has to be served, with the numbers that decide where it fits.

A profile is a YAML file in templates/profiles or in the user's profiles folder. The dataclasses
below are the schema, once: msgspec checks them in milliseconds on every start; only when that
fails is pydantic imported to report every error at once, with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?")
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


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
    """

    quantization: Quantization
    repository: str
    revision: str | None = None
    weights_gib: float | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """The load that a replica is sized for.

    Attributes:
        context: longest sequence in tokens (--max-model-len).
        concurrency: sequences decoded together at most (--max-num-seqs).
        input_tokens, output_tokens: mean per request; they set the cost per million tokens.
    """

    context: int = 8192
    concurrency: int = 64
    input_tokens: int = 1024
    output_tokens: int = 256


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


@dataclass(frozen=True, slots=True)
class Profile:
    """A model to serve.

    Attributes:
        name: what the user types; lower case, digits, dots and dashes, at most 40 characters.
        variants: at least one; the cheapest that fits is chosen per offer.
        gpus: the only GPUs allowed (vocabulary of arbiter.gpus); empty allows all that fit.
        licence, gated: as the hub states them; for people.
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
