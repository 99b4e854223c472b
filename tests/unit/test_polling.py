"""When a provider is polled, how failures space it out, and what a poll that hangs may cost."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.errors import RateLimited, Unreachable
from arbiter.ingest import poll_providers
from arbiter.polling import FIRST_S, LONGEST_S, OPEN_AFTER, Cadence, Circuit, Poller
from arbiter.provider import Fetched, Progress, ProviderSettings
from arbiter.settings import Settings
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow
from arbiter.store.turns import Turn, turns, write_turn
from arbiter.testing import FakeClock, FakeProvider, priced

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CALM = ProviderSettings(interval_s=300, jitter=0)
PATIENCE_S = 20.0


def ended(state: str = "ok", wait_s: float | None = None) -> PollRow:
    return PollRow("one", NOW, NOW, state, wait_s=wait_s)


def waits(cadence: Cadence, *states: str) -> list[float]:
    """Seconds until the next poll after each of the polls."""
    found = []
    for state in states:
        cadence.heard(ended(state), NOW)
        found.append(cadence.wait_s(NOW))
    return found


# --- the cadence ------------------------------------------------------------------------------


def test_a_new_provider_is_due_and_then_comes_at_its_interval() -> None:
    cadence = Cadence("one", CALM)
    assert cadence.wait_s(NOW) == 0
    assert waits(cadence, "ok", "degraded", "ok") == [300, 300, 300]


def test_failures_are_repeated_soon_and_then_seldom() -> None:
    cadence = Cadence("one", CALM)
    assert waits(cadence, *["failed"] * 10) == [30, 60, 120, 240, 300, 600, 1200, 2400, 3600, 3600]
    assert waits(cadence, "ok", "failed") == [300, FIRST_S]


def test_a_provider_of_a_long_interval_is_never_asked_sooner_for_an_open_circuit() -> None:
    cadence = Cadence("one", replace(CALM, interval_s=7200))
    assert waits(cadence, *["failed"] * 7)[-1] == 7200 > LONGEST_S


def test_a_circuit_opens_lets_one_poll_through_and_closes() -> None:
    cadence = Cadence("one", CALM)
    waits(cadence, *["failed"] * (OPEN_AFTER - 1))
    assert cadence.circuit(NOW) is Circuit.CLOSED
    waits(cadence, "failed")
    assert cadence.circuit(NOW) is Circuit.OPEN
    assert cadence.circuit(NOW + timedelta(seconds=300)) is Circuit.HALF_OPEN
    waits(cadence, "failed")
    assert cadence.circuit(NOW + timedelta(seconds=300)) is Circuit.OPEN
    waits(cadence, "ok")
    assert cadence.circuit(NOW) is Circuit.CLOSED


def test_a_wait_that_is_asked_for_is_kept() -> None:
    cadence = Cadence("one", CALM)
    assert cadence.heard(ended("failed", wait_s=600), NOW) == NOW + timedelta(seconds=600)
    assert cadence.asked_until == NOW + timedelta(seconds=600)
    cadence.heard(ended("failed", wait_s=1), NOW)
    assert cadence.wait_s(NOW) == 60, "shorter than its own wait, which stands"
    cadence.heard(ended("failed", wait_s=1e12), NOW)
    assert cadence.wait_s(NOW) == 86_400, "no provider silences itself for ever"
    assert cadence.heard(ended(), NOW) == NOW + timedelta(seconds=300)
    assert cadence.asked_until is None


def test_jitter_is_the_same_for_the_same_arbiter_and_another_for_another() -> None:
    settings = replace(CALM, jitter=0.1)
    first = waits(Cadence("one", settings, "a"), *["ok"] * 20)
    assert first == waits(Cadence("one", settings, "a"), *["ok"] * 20)
    assert first != waits(Cadence("one", settings, "b"), *["ok"] * 20)
    assert first != waits(Cadence("two", settings, "a"), *["ok"] * 20)
    assert len(set(first)) == 20
    assert max(first) - min(first) > 30


@given(
    st.text(max_size=5),
    st.floats(0, 0.99),
    st.floats(1, 1e5),
    st.lists(st.sampled_from(["ok", "failed", "degraded"]), min_size=1, max_size=30),
)
def test_no_wait_is_out_of_bounds(
    seed: str, jitter: float, interval: float, states: list[str]
) -> None:
    settings = ProviderSettings(interval_s=interval, jitter=jitter)
    longest = max(interval, LONGEST_S) * (1 + jitter) + 1
    for wait in waits(Cadence("one", settings, seed), *states):
        assert 0 <= wait <= longest


def test_a_restart_keeps_to_an_open_circuit_and_to_what_was_asked_for() -> None:
    soon = NOW + timedelta(seconds=900)
    opened = Turn("one", "open", OPEN_AFTER, next_at=soon)
    assert Cadence("one", CALM, before=opened).wait_s(NOW) == 900
    asked = Turn("one", "closed", 1, next_at=soon, asked_until=NOW + timedelta(seconds=60))
    assert Cadence("one", CALM, before=asked).wait_s(NOW) == 60
    well = Turn("one", "closed", 0, next_at=soon)
    assert Cadence("one", CALM, before=well).wait_s(NOW) == 0


# --- the poller -------------------------------------------------------------------------------


def noted(store: Store) -> Turn:
    with store.read() as connection:
        return turns(connection)["one"]


def test_a_turn_reads_back_equal(store: Store) -> None:
    turn = Turn("one", "open", 7, NOW, None, NOW + timedelta(seconds=5), "eu-west-1, page 3")
    with store.begin() as connection:
        write_turn(connection, Turn("one", polling_since=NOW))
        write_turn(connection, turn)
        write_turn(connection, Turn("two"))
    with store.read() as connection:
        assert turns(connection) == {"one": turn, "two": Turn("two")}


def test_a_rate_limit_beyond_one_poll_delays_the_next_and_says_so(store: Store) -> None:
    clock, provider = FakeClock(), FakeProvider("one", [priced()])
    provider.fails(RateLimited("one: 429 Too Many Requests", None, 600))
    poller = Poller(provider, CALM, store, clock)
    row = poller.poll()
    assert row.reasons == (
        "one: 429 Too Many Requests",
        "asked to be left alone until 00:10:00 UTC",
    )
    assert poller.wait_s() == 600
    clock.advance(601)
    assert poller.wait_s() == 0


def test_an_open_circuit_is_told_with_its_next_try(store: Store) -> None:
    clock, provider = FakeClock(), FakeProvider("one", [priced()])
    provider.fails(Unreachable("one: no answer"))
    poller = Poller(provider, CALM, store, clock)
    for _ in range(OPEN_AFTER):
        row = poller.poll()
        clock.advance(poller.wait_s())
    assert row.reasons[1].startswith("failed 5 times in a row, not asked again before 00:12:30")
    assert (noted(store).circuit, noted(store).failures) == ("open", 5)
    provider.sells([priced()])
    assert poller.poll().state == "ok"
    assert (noted(store).circuit, noted(store).failures) == ("closed", 0)
    assert poller.wait_s() == 300


class Watching(FakeProvider):
    """Looks, while it is polled, at what others can see of it."""

    def __init__(self, store: Store) -> None:
        super().__init__("one", [priced()])
        self._store = store
        self.seen: list[Turn] = []

    def fetch(self, progress: Progress) -> Fetched:
        self.seen.append(noted(self._store))
        progress("page 1")
        return super().fetch(progress)


def test_others_see_that_a_poll_goes_on(store: Store) -> None:
    provider, clock = Watching(store), FakeClock()
    poller = Poller(provider, CALM, store, clock)
    poller.poll()
    assert [turn.polling_since for turn in provider.seen] == [clock.now()]
    assert noted(store) == Turn("one", next_at=clock.now() + timedelta(seconds=300))


class Hanging(FakeProvider):
    """Does not come back until it is let go."""

    def __init__(self, name: str = "one") -> None:
        super().__init__(name, [priced(usd="9.00")])
        self.let_go = threading.Event()
        self.gone = threading.Event()

    def fetch(self, progress: Progress) -> Fetched:
        self.fetches += 1
        assert self.let_go.wait(PATIENCE_S)
        try:
            return super().fetch(progress)
        finally:
            self.gone.set()


def test_a_poll_that_hangs_ends_by_its_deadline_and_its_result_is_discarded(store: Store) -> None:
    provider, rows = Hanging(), []
    settings = replace(CALM, deadline_s=0.05)
    poller = Poller(provider, settings, store, FakeClock(), rows.append)
    row = poller.poll()
    assert row.state == "failed"
    assert row.reasons == ("one: no result within 0.05 s; what comes later is discarded",)

    again = poller.poll()
    assert again.reasons == ("one: the poll of 00:00:00 UTC still hangs; nothing new was asked",)
    assert provider.fetches == 1, "no second thread was lost"

    provider.let_go.set()
    assert provider.gone.wait(PATIENCE_S)
    for thread in threading.enumerate():
        if thread.name.startswith("ask one"):
            thread.join(PATIENCE_S)
    with store.read() as connection:
        count = connection.exec_driver_sql("SELECT COUNT(*) FROM price_change").scalar()
    assert count == 0
    assert poller.poll().state == "ok"
    assert [one.state for one in rows] == ["failed", "failed", "ok"]


def test_a_typed_poll_of_one_that_hangs_delays_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arbiter import registry

    made = {"aa": Hanging("aa"), "bb": FakeProvider("bb", [priced()])}
    monkeypatch.setattr(registry, "load", lambda name, _settings: made[name])
    settings = Settings(providers={"aa": ProviderSettings(deadline_s=0.3)})
    rows = list(poll_providers(["aa", "bb"], settings, store, FakeClock(), {}))
    assert [(row.provider, row.state) for row in rows] == [("bb", "ok"), ("aa", "failed")]
    made["aa"].let_go.set()  # type: ignore[attr-defined]
