"""What the tokens of the last hour have really cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from arbiter.counters import Counters
from arbiter.money import Price
from arbiter.served import Made, Served, Stood, served

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR_AGO = NOW - timedelta(hours=1)
TWO_USD = Price.of("2")


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def told(age_s: float, running: int, rate: float | None) -> tuple[Counters, float | None]:
    return Counters(NOW - timedelta(seconds=age_s), running, 1, 1000), rate


def figures(*stood: Stood, tokens: int = 500_000, prompt: int = 300_000) -> Served:
    made = [Made(ago(30), 300, tokens, prompt)]
    return served(NOW, HOUR_AGO, [told(5, 3, 40.0)], made, stood)


def test_a_million_tokens_cost_what_the_machines_cost_meanwhile() -> None:
    found = figures(Stood(ago(300), NOW, TWO_USD))
    assert found.usd == Decimal("2.000000")
    assert found.usd_per_mtok == Decimal("4.0000")
    assert found.usd_per_mtok_of_both == Decimal("2.5000")


def test_a_machine_that_served_nothing_is_paid_all_the_same() -> None:
    idle = Stood(ago(15), NOW, Price.of("4"))
    ended = Stood(ago(600), ago(45), TWO_USD)
    assert figures(Stood(ago(300), NOW, TWO_USD), idle, ended).usd == Decimal("3.500000")


def test_what_ended_before_the_hour_costs_nothing_in_it() -> None:
    assert figures(Stood(ago(600), ago(60), TWO_USD)).usd == 0


def test_without_a_token_or_a_price_there_is_no_cost_of_tokens() -> None:
    standing = Stood(ago(300), NOW, TWO_USD)
    assert figures(standing, tokens=0, prompt=0).usd_per_mtok is None
    assert figures(Stood(ago(300), NOW, None)).usd_per_mtok is None
    assert figures(standing, Stood(ago(9), NOW, Price.of("1", "EUR"))).usd is None


def test_now_is_what_was_read_within_a_minute() -> None:
    found = served(NOW, HOUR_AGO, [told(5, 3, 40.0), told(9, 2, 2.5), told(61, 7, 9.0)], [], [])
    assert (found.tokens_per_s, found.running, found.waiting) == (42.5, 5, 2)
    first = served(NOW, HOUR_AGO, [told(5, 3, None)], [], [])
    assert (first.tokens_per_s, first.running) == (None, 3)
    silent = served(NOW, HOUR_AGO, [told(300, 3, 40.0), told(-30, 3, 40.0)], [], [])
    assert (silent.tokens_per_s, silent.running, silent.waiting) == (None, None, None)


def test_of_a_long_silence_only_the_part_within_the_hour_counts() -> None:
    half = Made(ago(30), 3600, 1000, 500)
    before = Made(ago(61), 300, 1000, 500)
    found = served(NOW, HOUR_AGO, [], [half, before], [])
    assert (found.tokens, found.prompt_tokens) == (500, 250)
