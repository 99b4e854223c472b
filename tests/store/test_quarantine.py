"""What cannot be believed is kept with its reason, decides nothing, and is not lost for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from arbiter import gate
from arbiter.domain import Purchase
from arbiter.errors import Unreachable
from arbiter.gatekeeper import Gatekeeper
from arbiter.ingest import poll_provider
from arbiter.provider import PricedOffer, Skip
from arbiter.regions import load_atlas
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook
from arbiter.store.quarantine import Case, cases
from arbiter.store.quotes import read_quotes
from arbiter.testing import FakeClock, FakeProvider, priced

SPOT, OD = Purchase.SPOT, Purchase.ON_DEMAND
HOUR, DAY = 3600, 86_400


class World:
    """A provider that is polled, and what the database says of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = FakeClock()
        self.provider = FakeProvider("one")
        self.restart()

    def restart(self) -> None:
        """As another process: nothing is remembered but by the database."""
        self.book, self.keeper = PriceBook("one"), Gatekeeper("one")

    def poll(self, *offers: PricedOffer, after_s: float = 300, **told: object) -> PollRow:
        if offers or told:
            self.provider.sells(offers, **told)  # type: ignore[arg-type]
        self.clock.advance(after_s)
        return poll_provider(
            self.provider, self.store, self.book, self.clock, lambda _: None, self.keeper
        )

    def prices(self) -> dict[str, str]:
        """Region and instance type -> the price that stands."""
        with self.store.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT s.region, s.instance_type, n.price_micros"
                " FROM price_now n JOIN series s ON s.id = n.series_id"
            )
            return {f"{row[0]}/{row[1]}": f"{row[2] / 1e6:.2f}" for row in rows}

    def seen(self) -> dict[str, int]:
        """Region -> seconds since it was last seen whole."""
        now = int(self.clock.now().timestamp())
        with self.store.read() as connection:
            rows = connection.exec_driver_sql("SELECT region, seen_at FROM coverage")
            return {row[0]: now - row[1] for row in rows}

    def standing(self) -> list[Case]:
        with self.store.read() as connection:
            return cases(connection)

    def ended(self) -> list[Case]:
        with self.store.read() as connection:
            return cases(connection, ended=True)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    store = Store(database_url)
    yield World(store)
    store.close()


def shop(factor: float = 1.0, region: str = "eu-north-1", number: int = 4) -> list[PricedOffer]:
    return [
        priced(region, f"{(1 + index / 10) * factor:.4f}", instance_type=f"m{index}")
        for index in range(number)
    ]


def cheap(usd: str = "0.10", name: str = "m0") -> PricedOffer:
    """A tenth of what `shop` asks for m0."""
    return priced("eu-north-1", usd, instance_type=name)


# --- single prices ----------------------------------------------------------------------------


def test_a_price_far_from_its_past_is_kept_and_decides_nothing(world: World) -> None:
    world.poll(*shop())
    row = world.poll(cheap(), *shop()[1:])

    assert (row.state, row.offers, row.changes, row.withdrawn) == ("degraded", 4, 0, 0)
    assert row.reasons == (
        "1 price held back, far from its own past: m0 spot in eu-north-1 at 0.1 USD, was 1 USD",
    )
    assert row.skips == {gate.FAR_FROM_PAST: 1}
    assert world.prices()["eu-north-1/m0"] == "1.00"
    (case,) = world.standing()
    assert (case.provider, case.region, case.purchase) == ("one", "eu-north-1", "spot")
    assert (case.reason, case.polls, case.offers) == (gate.FAR_FROM_PAST, 1, 1)
    (held,) = case.rows
    assert (held.instance_type, held.price_micros, held.known_micros) == ("m0", 100_000, 1_000_000)


def test_the_last_good_price_grows_older_though_its_region_is_seen(world: World) -> None:
    world.poll(*shop())
    before = int(world.clock.now().timestamp())
    for _ in range(3):
        world.poll(cheap(), *shop()[1:])
    (case,) = world.standing()
    assert case.rows[0].seen_at == before
    assert world.seen() == {"eu-north-1": 0}


def test_its_quote_is_as_old_as_its_price_was_seen(world: World) -> None:
    world.poll(*shop())
    before = world.clock.now()
    for _ in range(3):
        world.poll(cheap(), *shop()[1:])
    with world.store.read() as connection:
        quotes = read_quotes(lambda sql: connection.exec_driver_sql(sql).all(), load_atlas())
    ages = {quote.offer.instance_type: quote.observed_at for quote in quotes}
    assert ages == {"m0": before, **dict.fromkeys(("m1", "m2", "m3"), world.clock.now())}
    world.poll(*shop())
    with world.store.read() as connection:
        quotes = read_quotes(lambda sql: connection.exec_driver_sql(sql).all(), load_atlas())
    assert {quote.observed_at for quote in quotes} == {world.clock.now()}


def test_one_bad_row_does_not_sink_the_others(world: World) -> None:
    world.poll(*shop())
    row = world.poll(cheap(), *shop(1.1)[1:])
    assert row.changes == 3
    assert world.prices() == {
        "eu-north-1/m0": "1.00",
        "eu-north-1/m1": "1.21",
        "eu-north-1/m2": "1.32",
        "eu-north-1/m3": "1.43",
    }


def test_a_doubt_is_one_row_while_it_stands_and_ends_with_a_sound_price(world: World) -> None:
    world.poll(*shop())
    for _ in range(3):
        world.poll(cheap(), *shop()[1:])
    assert [case.polls for case in world.standing()] == [3]
    row = world.poll(*shop())
    assert (row.state, row.reasons, world.standing()) == ("ok", (), [])
    (ended,) = world.ended()
    assert (ended.polls, ended.ended_at) == (3, world.clock.now())
    assert ended.last_at - ended.first_at == timedelta(seconds=600)


def test_a_price_that_stands_is_believed_in_the_end_and_the_record_says_so(world: World) -> None:
    world.poll(*shop())
    for _ in range(5):
        assert world.poll(cheap(), *shop()[1:], after_s=4 * HOUR).state == "degraded"
    row = world.poll(cheap(), *shop()[1:], after_s=3 * HOUR)  # six polls, but not yet a day
    assert row.state == "degraded"
    row = world.poll(cheap(), *shop()[1:], after_s=5 * HOUR)

    assert (row.state, row.changes) == ("ok", 1)
    assert world.prices()["eu-north-1/m0"] == "0.10"
    assert world.standing() == []
    believed = [case for case in world.ended() if "believed" in case.reason]
    assert [case.reason for case in believed] == [
        "far from its own past; believed after 7 polls in 24.0 h"
    ]
    assert world.poll(cheap(), *shop()[1:]).state == "ok"


def test_a_price_that_jumps_about_is_never_believed(world: World) -> None:
    world.poll(*shop())
    for turn in range(30):
        row = world.poll(cheap("0.10" if turn % 2 else "0.05"), *shop()[1:], after_s=6 * HOUR)
        assert row.state == "degraded"
    assert world.prices()["eu-north-1/m0"] == "1.00"


def test_what_its_peers_contradict_waits_for_a_week(world: World) -> None:
    many = shop(number=8)
    world.poll(*many)
    row = world.poll(cheap(), *many[1:])
    assert row.skips == {gate.FAR_FROM_BOTH: 1}
    for _ in range(6 * 4):
        row = world.poll(cheap(), *many[1:], after_s=6 * HOUR)
    assert row.state == "degraded"
    for _ in range(5):
        row = world.poll(cheap(), *many[1:], after_s=6 * HOUR)
    assert row.state == "ok"


def test_what_its_peers_confirm_waits_for_an_hour(world: World) -> None:
    """A price that was far too high comes down to where all others are."""
    world.poll(*shop(number=8), cheap("30.00", "dear"))
    peers = shop(number=8)
    for expected in ("degraded", "degraded", "ok"):
        row = world.poll(*peers, cheap("1.20", "dear"), after_s=HOUR)
        assert row.state == expected
    assert world.prices()["eu-north-1/dear"] == "1.20"


def test_a_price_back_in_the_range_of_90_days_is_believed_at_once(world: World) -> None:
    world.poll(cheap("1.00"))
    world.poll(cheap("0.25"))
    world.poll(cheap("0.06"))
    assert world.poll(cheap("1.00")).state == "ok"
    assert world.prices() == {"eu-north-1/m0": "1.00"}


def test_a_wild_new_price_and_a_worthless_one_are_kept_too(world: World) -> None:
    world.poll(*shop(number=8))
    free = priced("eu-north-1", "0", instance_type="m1")
    few = priced("eu-north-1", "1.20", instance_type="m2", gpu_count=0)
    kept = [one for one in shop(number=8) if one.instance_type not in ("m1", "m2")]
    row = world.poll(*kept, free, few, cheap("900.00", "wild"))

    assert (row.state, row.withdrawn) == ("degraded", 0)
    assert row.skips == {gate.FAR_FROM_PEERS: 1, gate.WORTHLESS: 2}
    assert world.prices()["eu-north-1/m1"] == "1.10"
    assert "eu-north-1/wild" not in world.prices()
    with world.store.read() as connection:
        counts = connection.exec_driver_sql("SELECT DISTINCT gpu_count FROM series").all()
    assert [tuple(row) for row in counts] == [(1,)]
    for _ in range(40):
        row = world.poll(after_s=6 * HOUR)
    assert world.prices()["eu-north-1/wild"] == "900.00", "after a week it is believed"
    assert row.skips == {gate.WORTHLESS: 2}, "and what is no price never"


# --- regions ----------------------------------------------------------------------------------


def test_a_slip_of_units_holds_its_region_back_and_no_other(world: World) -> None:
    world.poll(*shop(), *shop(region="eu-west-1"))
    row = world.poll(*shop(100), *shop(1.1, region="eu-west-1"), cheap("250.00", "new"))

    assert (row.state, row.changes, row.withdrawn) == ("degraded", 4, 0)
    assert row.reasons == (f"eu-north-1 spot: 5 prices held back: {gate.POWER_OF_TEN}",)
    assert world.prices()["eu-north-1/m0"] == "1.00"
    assert "eu-north-1/new" not in world.prices()
    assert world.seen() == {"eu-north-1": 300, "eu-west-1": 0}
    (case,) = world.standing()
    assert (case.reason, case.offers, len(case.rows)) == (gate.POWER_OF_TEN, 5, 5)


def test_a_slip_that_is_mended_ends(world: World) -> None:
    world.poll(*shop())
    world.poll(*shop(100))
    assert world.poll(*shop(1.01)).state == "ok"
    assert (world.standing(), world.seen()) == ([], {"eu-north-1": 0})
    assert world.prices()["eu-north-1/m0"] == "1.01"


def test_a_slip_that_stands_for_a_week_is_believed(world: World) -> None:
    world.poll(*shop())
    states = [world.poll(*shop(100), after_s=12 * HOUR).state for _ in range(16)]
    assert states == ["degraded"] * 14 + ["ok"] * 2
    assert world.prices()["eu-north-1/m0"] == "100.00"


def test_a_currency_taken_for_another_is_noticed(world: World) -> None:
    everything = [*shop(number=6), *shop(region="eu-west-1", number=6)]
    world.poll(*everything)
    row = world.poll(*shop(1.17, number=6), *shop(1.17, region="eu-west-1", number=6))
    assert row.reasons == (
        f"eu-north-1 spot, eu-west-1 spot: 12 prices held back: {gate.ONE_FACTOR}",
    )
    assert set(world.seen().values()) == {300}


def test_a_region_that_is_empty_all_at_once_is_not_withdrawn_at_once(world: World) -> None:
    both = [("eu-north-1", SPOT), ("eu-west-1", SPOT)]
    world.poll(*shop(), *shop(region="eu-west-1"), covered=both)
    row = world.poll(*shop(), covered=both)

    assert (row.state, row.withdrawn) == ("degraded", 0)
    assert row.reasons == (
        "eu-west-1 spot: answered with no prices where 4 stood, which are kept and grow older",
    )
    assert world.seen() == {"eu-north-1": 0, "eu-west-1": 300}
    assert world.poll(*shop(), *shop(region="eu-west-1"), covered=both).state == "ok"
    assert world.seen() == {"eu-north-1": 0, "eu-west-1": 0}


def test_a_region_that_stays_empty_is_withdrawn(world: World) -> None:
    both = [("eu-north-1", SPOT), ("eu-west-1", SPOT)]
    world.poll(*shop(), *shop(region="eu-west-1"), covered=both)
    rows = [world.poll(*shop(), covered=both) for _ in range(5)]
    assert [row.withdrawn for row in rows] == [0, 0, 0, 4, 0]
    assert [row.state for row in rows] == ["degraded"] * 3 + ["ok"] * 2
    assert "eu-west-1/m0" not in world.prices()


def test_a_region_that_was_always_empty_is_none_of_it(world: World) -> None:
    row = world.poll(*shop(), covered=[("eu-north-1", SPOT), ("eu-south-1", SPOT)])
    assert row.state == "ok"


def test_a_doubt_of_a_region_that_does_not_answer_stands_on(world: World) -> None:
    world.poll(*shop(), *shop(region="eu-west-1"))
    world.poll(*shop(100), *shop(region="eu-west-1"))
    world.poll(
        *shop(region="eu-west-1"), covered=[("eu-west-1", SPOT)], degraded=["eu-north-1: no"]
    )
    assert [(case.region, case.polls) for case in world.standing()] == [("eu-north-1", 1)]
    world.poll(*shop(100), *shop(region="eu-west-1"))
    assert [(case.region, case.polls) for case in world.standing()] == [("eu-north-1", 2)]


# --- whole answers ----------------------------------------------------------------------------


def test_an_answer_of_which_nothing_is_used_is_kept_in_samples(world: World) -> None:
    world.poll(*shop())
    bad = [Skip("price is 0", malformed=True, sample=f"row {index}") for index in range(12)]
    for _ in range(2):
        row = world.poll(*shop()[:2], skips=bad)
    assert row.state == "failed"
    assert world.prices()["eu-north-1/m3"] == "1.30"
    (case,) = world.standing()
    assert (case.region, case.reason, case.polls, case.offers) == ("", gate.MALFORMED, 2, 12)
    assert case.samples[0] == "price is 0: row 0"
    assert world.poll(*shop(), skips=[]).state == "ok"
    assert world.standing() == []


def test_a_poll_that_fails_changes_no_doubt(world: World) -> None:
    world.poll(*shop())
    world.poll(cheap(), *shop()[1:])
    world.provider.fails(Unreachable("one: no answer"))
    assert world.poll().state == "failed"
    assert [case.polls for case in world.standing()] == [1]


# --- memory -----------------------------------------------------------------------------------


def test_another_process_goes_on_where_this_one_ended(world: World) -> None:
    world.poll(*shop())
    for turn in range(8):
        world.restart()
        row = world.poll(cheap(), *shop()[1:], after_s=4 * HOUR)
        assert row.state == ("degraded" if turn < 6 else "ok"), turn
    assert world.prices()["eu-north-1/m0"] == "0.10"


def test_what_another_process_believed_is_believed_here(world: World) -> None:
    world.poll(*shop())
    other = World(world.store)
    other.provider.name = "one"
    other.clock.advance(world.clock.now().timestamp() - other.clock.now().timestamp())
    for _ in range(8):
        other.poll(cheap(), *shop()[1:], after_s=4 * HOUR)
    assert other.prices()["eu-north-1/m0"] == "0.10"
    world.clock.advance(32 * HOUR)
    assert world.poll(cheap(), *shop()[1:]).state == "ok"
    assert world.prices()["eu-north-1/m0"] == "0.10"


def test_a_series_that_comes_back_is_compared_with_what_it_was(world: World) -> None:
    world.poll(*shop())
    world.poll(*shop()[1:])
    assert "eu-north-1/m0" not in world.prices()
    world.restart()
    assert world.poll(cheap(), *shop()[1:], after_s=10 * DAY).skips == {gate.FAR_FROM_PAST: 1}
    assert "eu-north-1/m0" not in world.prices(), "what is not sold does not come back"
    world.poll(*shop()[1:])
    assert world.poll(cheap(), *shop()[1:], after_s=100 * DAY).state == "ok"


def test_the_same_answer_is_let_through_as_the_same_object(world: World) -> None:
    """Or the price book would compare twelve thousand offers that have not changed."""
    offers: Sequence[PricedOffer] = shop()
    row = PollRow("one", world.clock.now(), world.clock.now(), "ok")
    covered = frozenset({("eu-north-1", SPOT)})
    keeper = Gatekeeper("one")
    with world.store.begin() as connection:
        first = keeper.judge(connection, offers, (), covered, row)
        again = keeper.judge(connection, list(offers), (), covered, row)
    assert first.offers is offers
    assert again.offers is first.offers
