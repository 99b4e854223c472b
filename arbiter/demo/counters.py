"""The counters of a demo server, on the page and under the names that vLLM uses.

The samples are those that arbiter reads from a real server (vLLM 0.32): labels `engine` and
`model_name`, counters with their `_created` twin, key-value cache use from 0 to 1.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FINISH_REASONS = ("stop", "length", "abort", "error")


class Counters:
    """Counts requests and tokens; safe to use from many threads.

    Args:
        model: value of the label `model_name`.
        max_running: requests that are answered together; more than that wait.
        created: Unix time at which the counters began.
    """

    def __init__(self, model: str, max_running: int, created: float) -> None:
        self._model = model
        self._max_running = max_running
        self._created = created
        self._changed = threading.Condition()
        self._running = 0
        self._waiting = 0
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._finished: Counter[str] = Counter()

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request, from the queue to its end."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._running < self._max_running)
            self._waiting -= 1
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def prompt(self, tokens: int) -> None:
        """A prompt of so many tokens was read."""
        with self._changed:
            self._prompt_tokens += tokens

    def token(self) -> None:
        """One token was generated."""
        with self._changed:
            self._generation_tokens += 1

    def finished(self, reason: str) -> None:
        """A request ended for this reason."""
        with self._changed:
            self._finished[reason] += 1

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no request is in flight; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._running == 0 and self._waiting == 0, timeout_s
            )

    def page(self) -> str:
        """All samples, in the Prometheus text format."""
        with self._changed:
            samples = (
                *self._gauge("num_requests_running", "Requests being answered.", self._running),
                *self._gauge("num_requests_waiting", "Requests in the queue.", self._waiting),
                *self._gauge(
                    "kv_cache_usage_perc",
                    "Share of the key-value cache in use, 0 to 1.",
                    self._running / self._max_running,
                ),
                *self._counter("prompt_tokens", "Tokens read.", self._prompt_tokens),
                *self._counter("generation_tokens", "Tokens written.", self._generation_tokens),
                *self._requests(),
            )
        return "\n".join(samples) + "\n"

    def _labels(self, more: str = "") -> str:
        return f'{{engine="0",{more}model_name="{_escaped(self._model)}"}}'

    def _gauge(self, name: str, text: str, value: float) -> Iterator[str]:
        yield f"# HELP vllm:{name} {text}"
        yield f"# TYPE vllm:{name} gauge"
        yield f"vllm:{name}{self._labels()} {float(value)!r}"

    def _counter(self, name: str, text: str, value: int) -> Iterator[str]:
        yield f"# HELP vllm:{name}_total {text}"
        yield f"# TYPE vllm:{name}_total counter"
        yield f"vllm:{name}_total{self._labels()} {float(value)!r}"
        yield f"# HELP vllm:{name}_created {text}"
        yield f"# TYPE vllm:{name}_created gauge"
        yield f"vllm:{name}_created{self._labels()} {self._created!r}"

    def _requests(self) -> Iterator[str]:
        yield "# HELP vllm:request_success_total Requests that ended, by reason."
        yield "# TYPE vllm:request_success_total counter"
        for reason in _FINISH_REASONS:
            labels = self._labels(f'finished_reason="{reason}",')
            yield f"vllm:request_success_total{labels} {float(self._finished[reason])!r}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
