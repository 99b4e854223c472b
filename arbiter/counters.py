"""What a vLLM server says of itself at /metrics, and what two readings of it tell. Pure.

Gauges lag behind by a step or two of the engine, so nothing is computed from them alone: tokens
are differences of counters, and a gauge counts where both ends of a window agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Protocol

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
KV_USAGE = "vllm:kv_cache_usage_perc"
GENERATED = "vllm:generation_tokens_total"
PROMPTED = "vllm:prompt_tokens_total"
WANTED = (RUNNING, WAITING, KV_USAGE, GENERATED, PROMPTED)

FULL_SHARE = 0.9
"""Of its --max-num-seqs: a server that decodes so many sequences is full."""

LONGEST_S = 120.0
"""Between two readings further apart than this a server may have been anything."""


@dataclass(frozen=True, slots=True)
class Counters:
    """One reading of one server, over all of its engines.

    Attributes:
        running: requests that are answered.
        waiting: requests in its queue.
        generation_tokens: output tokens since it started.
        prompt_tokens: input tokens since it started; None where it does not tell.
        kv_usage: share of the key-value cache in use, 0 to 1, the mean of its engines; None where
            it does not tell.
    """

    at: datetime
    running: int
    waiting: int
    generation_tokens: int
    prompt_tokens: int | None = None
    kv_usage: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What one server did between two readings.

    Attributes:
        seconds: from one to the other, above 0.
        tokens: output tokens.
        prompt_tokens: input tokens; 0 where it does not tell.
        saturated: it had all the work that it can do, so that the tokens are what it can make;
            otherwise they are what was asked of it.
    """

    seconds: float
    tokens: int
    prompt_tokens: int
    saturated: bool

    @property
    def tokens_per_s(self) -> float:
        """Output tokens per second."""
        return self.tokens / self.seconds


class ReadsCounters(Protocol):
    """Reads the counters of servers."""

    def read(self, endpoints: Mapping[str, str], now: datetime) -> Mapping[str, Counters]:
        """Those that tell, by cluster; one that does not is left out.

        Args:
            endpoints: cluster -> base URL.
        """
        ...


class NoCounters:
    """Knows of no counters."""

    def read(self, _endpoints: Mapping[str, str], _now: datetime) -> Mapping[str, Counters]:
        """Nothing."""
        return {}


def parse_counters(page: str, at: datetime) -> Counters | None:
    """The counters of a page in the Prometheus text format.

    None where it is none of vLLM's, is damaged, or lacks running, waiting or generated. Other
    samples than those that are wanted are not parsed: a page of vLLM 0.32 has 364.
    """
    from prometheus_client.parser import text_string_to_metric_families

    if not page.endswith("\n"):
        return None  # cut: a number at its end may be half of one
    lines = [line for line in page.splitlines() if _name(line) in WANTED]
    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(float(sample.value))
    except (ValueError, LookupError, TypeError):
        return None
    if not all(
        isfinite(value) and 0 <= value < 2**53 for values in found.values() for value in values
    ):
        return None
    sums = {name: sum(values) for name, values in found.items()}
    if not {RUNNING, WAITING, GENERATED} <= sums.keys():
        return None
    usage = found.get(KV_USAGE)
    return Counters(
        at=at,
        running=int(sums[RUNNING]),
        waiting=int(sums[WAITING]),
        generation_tokens=int(sums[GENERATED]),
        prompt_tokens=int(sums[PROMPTED]) if PROMPTED in sums else None,
        kv_usage=min(sum(usage) / len(usage), 1.0) if usage else None,
    )


def window(before: Counters, after: Counters, max_num_seqs: int) -> Window | None:
    """What happened between two readings of one server; None where no time has passed.

    A counter that went down was started anew: what it shows was counted since then.

    Args:
        max_num_seqs: sequences that the server decodes together at most.
    """
    seconds = (after.at - before.at).total_seconds()
    if seconds <= 0:
        return None
    restarted = after.generation_tokens < before.generation_tokens
    tokens = after.generation_tokens - (0 if restarted else before.generation_tokens)
    full = _is_full(before, max_num_seqs) and _is_full(after, max_num_seqs)
    return Window(
        seconds=seconds,
        tokens=tokens,
        prompt_tokens=_more(before.prompt_tokens, after.prompt_tokens),
        saturated=full and tokens > 0 and not restarted and seconds <= LONGEST_S,
    )


def _name(line: str) -> str:
    """The name of a line's sample."""
    return line.split("{", 1)[0].split(" ", 1)[0]


def _is_full(counters: Counters, max_num_seqs: int) -> bool:
    """Whether it answers all that it can: others wait, or nearly every sequence is taken."""
    if counters.running == 0:
        return False  # whatever waits then waits for something else than the engine
    return counters.waiting > 0 or counters.running >= FULL_SHARE * max_num_seqs


def _more(before: int | None, after: int | None) -> int:
    if after is None:
        return 0
    return after if before is None or after < before else after - before
