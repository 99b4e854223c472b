"""What a page of counters says, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from arbiter.counters import Counters, parse_counters, window
from arbiter.demo.counters import Counters as DemoCounters

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
IDLE = Counters(NOW, running=0, waiting=0, generation_tokens=1000, prompt_tokens=500)
FULL = replace(IDLE, running=32, waiting=4)


def page(**samples: object) -> str:
    lines = {
        "num_requests_running": 3,
        "num_requests_waiting": 2,
        "kv_cache_usage_perc": 0.5,
        "generation_tokens_total": 100,
        "prompt_tokens_total": 40,
        **samples,
    }
    return "".join(
        f'vllm:{name}{{engine="0",model_name="tiny"}} {value}\n'
        for name, value in lines.items()
        if value is not None
    )


def test_a_recorded_page_of_vllm_is_read(shared: Path) -> None:
    text = (shared / "recordings" / "vllm_metrics.txt").read_text(encoding="utf-8")
    assert parse_counters(text, NOW) == Counters(NOW, 0, 0, 2574, 2414, 0.0)


def test_a_page_of_the_demo_is_read() -> None:
    counters = DemoCounters('a "model"', 4, 1_795_416_666.5)
    with counters.request():
        counters.prompt(7)
        counters.token()
        assert parse_counters(counters.page(), NOW) == Counters(NOW, 1, 0, 1, 7, 0.25)


def test_engines_are_added_up_and_their_caches_averaged() -> None:
    other = page(kv_cache_usage_perc=1.0).replace('engine="0"', 'engine="1"')
    assert parse_counters(page() + other, NOW) == Counters(NOW, 6, 4, 200, 80, 0.75)


def test_what_a_server_does_not_tell_is_not_known() -> None:
    text = page(prompt_tokens_total=None, kv_cache_usage_perc=None)
    assert parse_counters(text, NOW) == Counters(NOW, 3, 2, 100, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>502 Bad Gateway</html>",
        "up 1\n",
        page(generation_tokens_total=None),
        page(num_requests_running=None),
        page(generation_tokens_total="NaN"),
        page(generation_tokens_total="+Inf"),
        page(num_requests_waiting=-1),
        page(generation_tokens_total=1e300),
        page(generation_tokens_total="many"),
        page()[:-1],
        page()[:-20] + "\n",
        'vllm:num_requests_running{engine="0',
        "vllm:num_requests_running",
        "vllm:generation_tokens_total\x00 1",
        "\ufffd\ufffd{}",
    ],
)
def test_a_damaged_page_says_nothing(text: str) -> None:
    assert parse_counters(text, NOW) is None


def test_a_window_holds_what_was_made_in_it() -> None:
    after = replace(IDLE, at=LATER, generation_tokens=1300, prompt_tokens=900)
    found = window(IDLE, after, 64)
    assert found is not None
    assert (found.seconds, found.tokens, found.prompt_tokens) == (10, 300, 400)
    assert found.tokens_per_s == 30
    assert not found.saturated


def test_a_server_that_was_started_anew_counts_from_zero_and_measures_nothing() -> None:
    after = replace(FULL, at=LATER, generation_tokens=80, prompt_tokens=30)
    found = window(FULL, after, 64)
    assert found is not None
    assert (found.tokens, found.prompt_tokens, found.saturated) == (80, 30, False)


@pytest.mark.parametrize("seconds", [0, -5])
def test_no_time_is_no_window(seconds: int) -> None:
    after = replace(IDLE, at=NOW + timedelta(seconds=seconds), generation_tokens=1300)
    assert window(IDLE, after, 64) is None


def made(change: Callable[[Counters], Counters], *, at: datetime = LATER) -> bool:
    found = window(change(IDLE), replace(change(IDLE), at=at, generation_tokens=4000), 64)
    assert found is not None
    return found.saturated


def test_only_a_server_with_all_the_work_it_can_do_is_saturated() -> None:
    assert made(lambda one: replace(one, running=10, waiting=1))
    assert made(lambda one: replace(one, running=60))
    assert not made(lambda one: replace(one, running=50))
    assert not made(lambda one: replace(one, waiting=5))  # it waits, and not for the engine


def test_one_end_of_the_window_is_not_enough() -> None:
    after = replace(FULL, at=LATER, generation_tokens=4000)
    for before in (IDLE, replace(IDLE, running=1)):
        found = window(before, after, 64)
        assert found is not None
        assert not found.saturated


def test_a_long_window_or_one_without_a_token_measures_nothing() -> None:
    assert not made(lambda _one: FULL, at=NOW + timedelta(seconds=121))
    stuck = window(FULL, replace(FULL, at=LATER), 64)
    assert stuck is not None
    assert not stuck.saturated
