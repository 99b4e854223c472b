"""What types cannot say of a profile: ranges, names, and flags that are not the user's to set.

The checks look at plain values, so that they also run over a document whose types are wrong and
every problem is reported at once; a value of a wrong type is left to the schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from arbiter.gpus import GPUS
from arbiter.profiles import BUCKET, NAME, REPOSITORY, Quantization
from arbiter.schema_errors import nearest
from arbiter.strict_yaml import Problem, Where
from arbiter.variants import BITS

FLAG = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TEMPLATE = re.compile(r"[a-z0-9][a-z0-9_-]*")
SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|(API|ACCESS|PRIVATE|SECRET)_?KEY(_ID)?)$")
REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")

OWNED_FLAGS: Mapping[str, str] = {
    "model": "the variant's repository",
    "tokenizer-revision": "the variant's revision",
    "revision": "the variant's revision",
    "quantization": "the repository's own configuration",
    "served-model-name": "the profile's name",
    "host": "arbiter",
    "port": "serving.port",
    "api-key": "a secret, which no profile holds",
    "hf-token": "the secret HF_TOKEN",
    "config": "the profile",
    "max-model-len": "workload.context",
    "max-num-seqs": "workload.concurrency",
    "gpu-memory-utilization": "serving.gpu_memory_utilization",
    "device-memory-utilization": "serving.gpu_memory_utilization",
    "kv-cache-memory-bytes": "serving.gpu_memory_utilization",
    "shutdown-timeout": "serving.drain_s",
    "tensor-parallel-size": "the number of GPUs",
    "pipeline-parallel-size": "the number of GPUs",
    "data-parallel-size": "service replicas",
}
"""Flags of `vllm serve` that follow from something else -> what they follow from."""

# fmt: off
REMOVED_FLAGS = frozenset((
    "swap-space", "disable-log-requests", "num-scheduler-steps", "multi-step-stream-outputs",
    "use-v2-block-manager", "max-seq-len-to-capture", "preemption-mode", "task", "rope-scaling",
    "rope-theta", "device", "enable-reasoning", "calculate-kv-scales", "scheduler-delay-factor",
    "override-neuron-config", "override-pooler-config", "disable-frontend-multiprocessing",
    "max-num-partial-prefills", "speculative-model", "num-speculative-tokens",
))
# fmt: on
"""Flags that vLLM 0.9 had and 0.33 refuses, as its own help lists them."""

REMOVED_PREFIXES = ("guided-decoding-", "tokenizer-pool-")

_POSITIVE = (
    ("architecture", "parameters_b"),
    ("architecture", "active_parameters_b"),
    ("architecture", "layers"),
    ("architecture", "hidden"),
    ("architecture", "heads"),
    ("architecture", "kv_heads"),
    ("architecture", "head_dim"),
    ("architecture", "vocab"),
    ("architecture", "sliding_window"),
    ("architecture", "experts"),
    ("architecture", "active_experts"),
    ("workload", "context"),
    ("workload", "concurrency"),
    ("workload", "input_tokens"),
    ("workload", "output_tokens"),
    ("workload", "demand_tokens_per_s"),
    ("serving", "start_s"),
    ("serving", "disk_gib"),
)


def problems(data: Mapping[str, Any], name: str) -> Iterator[Problem]:
    """Everything that is wrong beyond the types.

    Args:
        data: the document.
        name: the file's name without its ending, which must be the profile's.
    """
    yield from _named(data, name)
    yield from _numbers(data)
    yield from _network(data)
    yield from _variants(data)
    yield from _load(data)
    yield from _server(data)
    yield from _flags(data)
    yield from _environment(data)
    yield from _gpus(data)


def _named(data: Mapping[str, Any], name: str) -> Iterator[Problem]:
    stated = data.get("name")
    if not isinstance(stated, str):
        return
    if not NAME.fullmatch(stated):
        yield Problem(
            ("name",), "must be lower-case letters, digits, dots and dashes, at most 40 characters"
        )
    elif stated != name:
        yield Problem(("name",), f"is {stated!r}, but the file is called {name}.yaml")


def _numbers(data: Mapping[str, Any]) -> Iterator[Problem]:
    for where in _POSITIVE:
        value = _number(data, *where)
        if value is not None and not (value > 0 and math.isfinite(value)):
            yield Problem(where, f"is {value}, must be above 0")


def _network(data: Mapping[str, Any]) -> Iterator[Problem]:
    def number(field: str) -> float | None:
        return _number(data, "architecture", field)

    heads, kv_heads = number("heads"), number("kv_heads")
    if heads and kv_heads and heads > 0 and kv_heads > 0 and heads % kv_heads:
        yield Problem(("architecture", "kv_heads"), f"is {kv_heads}, must divide {heads} heads")
    yield from _at_most(data, "active_parameters_b", "parameters_b")
    yield from _at_most(data, "active_experts", "experts")
    yield from _at_most(data, "sliding_layers", "layers")
    for one, other in (("experts", "active_experts"), ("active_experts", "experts")):
        if number(one) is not None and number(other) is None:
            yield Problem(("architecture", one), f"needs {other} beside it")
    sliding = number("sliding_layers")
    if sliding is not None and sliding < 0:
        yield Problem(("architecture", "sliding_layers"), f"is {sliding}, must be 0 or more")
    if sliding and number("sliding_window") is None:
        yield Problem(("architecture", "sliding_layers"), "needs sliding_window beside it")


def _at_most(data: Mapping[str, Any], field: str, limit: str) -> Iterator[Problem]:
    value = _number(data, "architecture", field)
    most = _number(data, "architecture", limit)
    if value is not None and most is not None and value > most:
        yield Problem(("architecture", field), f"is {value}, more than {limit}, {most}")


def _variants(data: Mapping[str, Any]) -> Iterator[Problem]:
    variants = data.get("variants")
    if not isinstance(variants, list):
        return
    if not variants:
        yield Problem(("variants",), "must list at least one way to store the weights")
    met: set[str] = set()
    for index, variant in enumerate(variants):
        if not isinstance(variant, Mapping):
            continue
        where: Where = ("variants", index)
        repository, revision = variant.get("repository"), variant.get("revision")
        if isinstance(repository, str) and not REPOSITORY.fullmatch(repository):
            yield Problem(
                (*where, "repository"),
                f"is {repository!r}, must be owner/model, an absolute path, or a bucket's URL",
            )
        if isinstance(revision, str) and not REVISION.fullmatch(revision):
            yield Problem((*where, "revision"), f"is {revision!r}, must be a commit or a tag")
        yield from _bucket(variant, where, _flags_of(data))
        weights = _number(variant, "weights_gib")
        if weights is not None and not (weights > 0 and math.isfinite(weights)):
            yield Problem((*where, "weights_gib"), f"is {weights}, must be above 0")
        stored = variant.get("quantization")
        if isinstance(stored, str):
            if stored in met:
                yield Problem((*where, "quantization"), f"{stored} is listed twice")
            met.add(stored)
    yield from _floor(data, met)


def _bucket(
    variant: Mapping[str, Any], where: Where, flags: Mapping[str, Any]
) -> Iterator[Problem]:
    """Where weights in a bucket stand has to be said; elsewhere there is nothing to say."""
    repository, load = variant.get("repository"), variant.get("load")
    staged = isinstance(repository, str) and BUCKET.match(repository) is not None
    if not staged:
        for name in ("region", "load"):
            if variant.get(name) is not None:
                yield Problem((*where, name), "is for weights in a bucket (s3://, gs://, az://)")
        return
    region = variant.get("region")
    if not region:
        yield Problem((*where, "region"), f"must say in which region {repository} stands")
    elif isinstance(region, str) and not REGION.fullmatch(region):
        yield Problem((*where, "region"), f"is {region!r}, must be a region, or provider/region")
    if variant.get("revision") is not None:
        yield Problem((*where, "revision"), "a bucket has no revisions")
    if load == "mount" and str(repository).startswith("az://"):
        yield Problem((*where, "load"), "SkyPilot mounts s3:// and gs:// buckets; use stream")
    if load != "mount" and "load-format" in flags:
        yield Problem(("serving", "flags", "load-format"), f"follows from {repository}")


def _flags_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    serving = data.get("serving")
    flags = serving.get("flags") if isinstance(serving, Mapping) else None
    return flags if isinstance(flags, Mapping) else {}


def _floor(data: Mapping[str, Any], stored: set[str]) -> Iterator[Problem]:
    floor = data.get("quality_floor")
    known = {one.value: BITS[one] for one in Quantization}
    if floor not in known or not stored or not stored <= known.keys():
        return
    if max(known[one] for one in stored) < known[floor]:
        yield Problem(("quality_floor",), f"is {floor}, and no variant is as good as that")


def _load(data: Mapping[str, Any]) -> Iterator[Problem]:
    context = _number(data, "workload", "context")
    request = [_number(data, "workload", field) for field in ("input_tokens", "output_tokens")]
    tokens = sum(part or 0 for part in request)
    if context and None not in request and 0 < context < tokens:
        yield Problem(("workload", "context"), f"is {context}, a mean request has {tokens} tokens")


def _server(data: Mapping[str, Any]) -> Iterator[Problem]:
    port = _number(data, "serving", "port")
    if port is not None and not 1024 <= port <= 65535:
        yield Problem(("serving", "port"), f"is {port}, must be 1024 to 65535")
    share = _number(data, "serving", "gpu_memory_utilization")
    if share is not None and not 0 < share <= 1:
        yield Problem(
            ("serving", "gpu_memory_utilization"), f"is {share}, must be above 0 and at most 1"
        )
    drain = _number(data, "serving", "drain_s")
    if drain is not None and drain < 0:
        yield Problem(("serving", "drain_s"), f"is {drain}, must be 0 or more")
    template = _value(data, "serving", "template")
    if isinstance(template, str) and not TEMPLATE.fullmatch(template):
        yield Problem(
            ("serving", "template"), f"is {template!r}, must be a file's name without its ending"
        )


def _flags(data: Mapping[str, Any]) -> Iterator[Problem]:
    flags = _value(data, "serving", "flags")
    if not isinstance(flags, Mapping):
        return
    for flag, value in flags.items():
        where: Where = ("serving", "flags", str(flag))
        bare = str(flag).removeprefix("no-")
        if not FLAG.fullmatch(str(flag)):
            yield Problem(where, "is no flag: lower-case letters, digits, dashes, none in front")
        elif bare in OWNED_FLAGS:
            yield Problem(where, f"is set by arbiter from {OWNED_FLAGS[bare]}")
        elif bare in REMOVED_FLAGS or bare.startswith(REMOVED_PREFIXES) or "prompt-adapter" in bare:
            yield Problem(where, "no longer exists in vLLM")
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(where, f"is {value}, must be finite")
        if isinstance(value, str) and not value.isprintable():
            yield Problem(where, "must be one line of printable text")


def _environment(data: Mapping[str, Any]) -> Iterator[Problem]:
    env = _value(data, "serving", "env")
    env = env if isinstance(env, Mapping) else {}
    for variable, value in env.items():
        where: Where = ("serving", "env", str(variable))
        if not VARIABLE.fullmatch(str(variable)):
            yield Problem(where, "is no name of a variable: letters, digits and _")
        elif SECRET.search(str(variable).upper()):
            yield Problem(where, "looks like a secret: list its name in serving.secrets instead")
        if isinstance(value, str) and not value.isprintable():
            yield Problem(where, "must be one line of printable text")
    secrets = _value(data, "serving", "secrets")
    for index, secret in enumerate(secrets if isinstance(secrets, list) else ()):
        if not isinstance(secret, str):
            continue
        where = ("serving", "secrets", index)
        # What does not look like a name may be the secret itself: it is not repeated here.
        if not VARIABLE.fullmatch(secret) or len(secret) > 64:
            yield Problem(where, "must be the name of a variable (HF_TOKEN), never its value")
        elif secret in env:
            yield Problem(where, f"{secret} is in env already")


def _gpus(data: Mapping[str, Any]) -> Iterator[Problem]:
    gpus = data.get("gpus")
    for index, gpu in enumerate(gpus if isinstance(gpus, list) else ()):
        if isinstance(gpu, str) and gpu not in GPUS:
            yield Problem(("gpus", index), f"no GPU is called {gpu!r}{nearest(gpu, list(GPUS))}")


def _value(data: Any, *where: str) -> Any:
    for step in where:
        data = data.get(step) if isinstance(data, Mapping) else None
    return data


def _number(data: Any, *where: str) -> float | None:
    value = _value(data, *where)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
