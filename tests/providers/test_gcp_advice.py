"""GCP: past prices, preemption rates and obtainability, as Compute Engine's advice has them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_in_gcp import recorded

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.provider import Fetched, Page, ParsedHistory, ProviderSettings, Signal
from arbiter_providers.gcp import CAPACITY, PREEMPTION, PRICE_HISTORY, Gcp
from arbiter_providers.gcp_advice import UNITS, ask_capacity, ask_history

NOW = datetime(2026, 10, 28, 20, tzinfo=UTC)


def at(month: int, day: int, hour: int = 7) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def said(body: Any, machine: str = "g2-standard-4", region: str = "europe-west4") -> dict[str, Any]:
    answer = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {"region": region, "machine_type": machine, "answer": answer}


def page(feed: str, *answers: dict[str, Any], whole: bool = True, **more: Any) -> Fetched:
    return Fetched((Page(feed, "", {"answers": list(answers), "whole": whole, **more}),))


def interval(begin: datetime, end: datetime | None) -> dict[str, str]:
    found = {"startTime": begin.isoformat().replace("+00:00", "Z")}
    return found | ({"endTime": end.isoformat().replace("+00:00", "Z")} if end else {})


# --- past prices ------------------------------------------------------------------------------


def price(begin: datetime, end: datetime | None, nanos: int = 5 * 10**8, **money: Any) -> Any:
    money = {"currencyCode": "USD", "nanos": nanos, **money}
    return {"interval": interval(begin, end), "listPrice": money}


def history(*records: Any, **more: Any) -> ParsedHistory:
    fetched = page(PRICE_HISTORY, said({"priceHistory": records}), **more)
    return Gcp(ProviderSettings()).parse_history(fetched, NOW)


Row = tuple[str, datetime, datetime | None]


def rows(parsed: ParsedHistory) -> list[Row]:
    return [(str(one.offer.price), one.valid_from, one.valid_to) for one in parsed.prices]


def test_past_prices_of_the_recording() -> None:
    fetched = page(PRICE_HISTORY, said(recorded("capacity-history")))
    parsed = Gcp(ProviderSettings()).parse_history(fetched, NOW)
    assert rows(parsed) == [
        ("0.357456 USD", at(6, 1), None),  # two records of one price, until the next
        ("0.3712 USD", at(8, 24), at(9, 20)),  # then nothing is known for four days
        ("0.38986 USD", at(9, 24), None),  # it stands: its end lies ahead
    ]
    assert parsed.skips == ()
    offer = parsed.prices[0].offer
    assert (offer.region, offer.zone, offer.instance_type) == (
        "europe-west4",
        None,
        "g2-standard-4",
    )
    assert (offer.gpu, offer.gpu_count, offer.purchase) == ("L4", 1, Purchase.SPOT)
    assert (offer.source, offer.priced_at) == ("gcp:capacity-history", at(6, 1))


def test_units_are_left_out_below_one_dollar() -> None:
    parsed = history(price(at(6, 1), at(7, 1), units="20"), price(at(7, 1), at(8, 1), 250_000_000))
    assert [str(one.offer.price) for one in parsed.prices] == ["20.5 USD", "0.25 USD"]
    assert str(history(price(at(6, 1), None, 0, units="3")).prices[0].offer.price) == "3 USD"


def test_the_last_price_ends_where_its_record_does() -> None:
    assert rows(history(price(at(6, 1), at(7, 1)))) == [("0.5 USD", at(6, 1), at(7, 1))]
    assert rows(history(price(at(6, 1), None))) == [("0.5 USD", at(6, 1), None)]


def test_records_come_in_any_order() -> None:
    a, b, c = (price(at(n, 1), at(n + 1, 1), n * 10**8) for n in (4, 5, 6))
    assert rows(history(a, b, c)) == rows(history(c, a, b))


def test_what_lies_outside_the_window_is_left_out() -> None:
    months = [price(at(n, 1), at(n + 1, 1), n * 10**8) for n in (3, 4, 5, 6)]
    window = {"since": at(5, 1).isoformat(), "until": at(6, 1).isoformat()}
    parsed = history(*months, **window)
    assert [one.valid_from for one in parsed.prices] == [at(5, 1)]
    assert len(parsed.skips) == 3


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (price(at(6, 1), None, 0), "price is 0"),
        (price(at(6, 1), None, units="-1"), "price is negative"),
        (price(at(6, 1), None, units="x"), "price is not a number"),
        (price(at(6, 1), None, currencyCode="EUR"), "currency is EUR, not USD"),
        (price(at(6, 2), at(6, 1)), "interval that ends before it begins"),
        (price(at(12, 1), None), "price of the future"),
        ({"interval": {"startTime": "2026-06-01T07:00:00"}, "listPrice": {"nanos": 10**8}},
         "interval without a time zone"),
        ({"interval": {}, "listPrice": {}}, "record of the wrong shape"),
        ({}, "record of the wrong shape"),
        (None, "record of the wrong shape"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_right_is_counted(record: Any, reason: str) -> None:
    parsed = history(record, price(at(3, 1), at(4, 1)))
    assert [(skip.reason, skip.malformed) for skip in parsed.skips] == [(reason, True)]
    assert len(parsed.prices) == 1


def test_an_answer_of_another_shape_harms_no_other() -> None:
    good = said({"priceHistory": [price(at(6, 1), None)]}, "g2-standard-8")
    for bad in (b"<html>", b"[]", b'{"priceHistory": 4}'):
        fetched = page(PRICE_HISTORY, said(bad), good)
        parsed = Gcp(ProviderSettings()).parse_history(fetched, NOW)
        assert [one.offer.instance_type for one in parsed.prices] == ["g2-standard-8"]
        assert [skip.reason for skip in parsed.skips] == ["history of another shape"]


def test_what_is_no_gpu_machine_or_was_not_asked_for_is_left_out() -> None:
    body = {"priceHistory": [price(at(6, 1), None)]}
    fetched = page(PRICE_HISTORY, said(body, "n2-standard-8"), said(body, region="us-central1"))
    parsed = Gcp(ProviderSettings(regions=("europe-west4",))).parse_history(fetched, NOW)
    assert parsed.prices == ()
    assert [skip.malformed for skip in parsed.skips] == [False, False]


@pytest.mark.parametrize("body", [None, 17, b"", {}, {"answers": 4}, {"answers": [{}]}])
def test_what_is_no_page_of_advice_is_a_bad_answer(body: Any) -> None:
    provider = Gcp(ProviderSettings())
    with pytest.raises(BadAnswer, match="gcp: a page of advice has another shape"):
        provider.parse_history(Fetched((Page(PRICE_HISTORY, "", body),)), NOW)
    for feed in (PREEMPTION, CAPACITY):
        with pytest.raises(BadAnswer, match="gcp: a page of advice has another shape"):
            provider.parse(Fetched((Page(feed, "", body),)), NOW)


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40), st.integers(1, 3)), max_size=8)


@given(SPANS)
def test_past_prices_are_in_order_and_never_run_into_each_other(
    spans: list[tuple[int, int, int]],
) -> None:
    start = datetime(2025, 11, 1, 7, tzinfo=UTC)
    records = [
        price(start + timedelta(days=a), start + timedelta(days=a + n), cents * 10**8)
        for a, n, cents in spans
    ]
    found = history(*records).prices
    starts = [one.valid_from for one in found]
    assert starts == sorted(starts)
    for one, following in pairwise(found):
        assert one.valid_to is None or one.valid_to < following.valid_from
        assert one.valid_to is not None or one.offer.price != following.offer.price
    stated = {(r["interval"]["startTime"], r["listPrice"]["nanos"]) for r in records}
    for one in found:
        begin = one.valid_from.isoformat().replace("+00:00", "Z")
        assert (begin, one.offer.price.micros * 1000) in stated


# --- signals ----------------------------------------------------------------------------------


def signals(fetched: Fetched, now: datetime = NOW) -> list[Signal]:
    return list(Gcp(ProviderSettings()).parse(fetched, now).signals)


def rate(begin: datetime, end: datetime | None, figure: Any) -> dict[str, Any]:
    return {"interval": interval(begin, end), "preemptionRate": figure}


def rates(*records: Any) -> Fetched:
    return page(PREEMPTION, said({"preemptionHistory": records}))


def test_the_rate_of_the_last_day_that_is_over() -> None:
    # The 28th still runs; the 27th is the last of three days that came as one record.
    signal, *rest = signals(page(PREEMPTION, said(recorded("capacity-history"))))
    assert rest == []
    assert signal == Signal(
        kind="preemption_rate",
        unit="share of stopped spot VMs per day, 0..1",
        region="europe-west4",
        zone=None,
        instance_type="g2-standard-4",
        purchase=Purchase.SPOT,
        low=Decimal("0.07"),
        high=Decimal("0.07"),
        observed_at=at(10, 27),
    )


def test_a_day_counts_once_it_is_over() -> None:
    records = (rate(at(10, 26), at(10, 27), 0.1), rate(at(10, 27), at(10, 28), 0.4))
    found = {
        now: [(signal.low, signal.observed_at) for signal in signals(rates(*records), now)]
        for now in (at(10, 28, 6), at(10, 28, 7))
    }
    assert found[at(10, 28, 6)] == [(Decimal("0.1"), at(10, 26))]
    assert found[at(10, 28, 7)] == [(Decimal("0.4"), at(10, 27))]


def test_a_merged_record_that_reaches_into_today_counts_to_yesterday() -> None:
    assert signals(rates(rate(at(10, 20), at(10, 29), 0.2)))[0].observed_at == at(10, 27)


def test_a_day_of_25_hours_is_a_day() -> None:
    # Clocks in California go back on 1 November 2026.
    record = rate(at(10, 30), at(11, 3, 8), 0.3)
    assert signals(rates(record), at(11, 3, 9))[0].observed_at == at(11, 2)


def test_no_record_is_no_rate_and_not_zero() -> None:
    for body in ({}, {"preemptionHistory": []}, {"preemptionHistory": [rate(NOW, None, 0.5)]}):
        assert signals(page(PREEMPTION, said(body))) == []
    assert signals(rates(rate(at(10, 26), at(10, 27), 0.0)))[0].low == 0


@pytest.mark.parametrize("figure", [-0.1, 1.1, "NaN", "x", None, []])
def test_a_rate_that_cannot_be_right_is_counted(figure: Any) -> None:
    fetched = rates(rate(at(10, 26), at(10, 27), figure), rate(at(10, 25), at(10, 26), 0.2))
    parsed = Gcp(ProviderSettings()).parse(fetched, NOW)
    assert [skip.malformed for skip in parsed.skips] == [True]
    assert [signal.low for signal in parsed.signals] == [Decimal("0.2")]


def test_obtainability_and_uptime() -> None:
    found = signals(page(CAPACITY, said(recorded("capacity"))))
    assert [(one.kind, one.low, one.high, one.observed_at) for one in found] == [
        ("obtainability", Decimal("0.7"), Decimal("0.7"), None),
        ("estimated_uptime", Decimal(3600), Decimal(3600), None),
    ]
    assert all(one.unit == UNITS[one.kind] for one in found)
    assert {(one.region, one.zone, one.instance_type) for one in found} == {
        ("europe-west4", None, "g2-standard-4")
    }


@pytest.mark.parametrize(
    ("body", "kinds", "malformed"),
    [
        ({}, [], 0),
        ({"recommendations": []}, [], 0),
        ({"recommendations": [{}]}, [], 0),
        ({"recommendations": [{"scores": {"estimatedUptime": "60s"}}]}, ["estimated_uptime"], 0),
        ({"recommendations": [{"scores": {"obtainability": 0}}]}, ["obtainability"], 0),
        ({"recommendations": [{"scores": {"obtainability": 7}}]}, [], 1),
        ({"recommendations": [{"scores": {"obtainability": "high"}}]}, [], 1),
        ({"recommendations": [{"scores": {"estimatedUptime": "long"}}]}, [], 1),
        ({"recommendations": 4}, [], 1),
        ([], [], 1),
    ],
)
def test_what_capacity_does_not_say_is_no_signal(
    body: Any, kinds: list[str], malformed: int
) -> None:
    parsed = Gcp(ProviderSettings()).parse(page(CAPACITY, said(body)), NOW)
    assert [signal.kind for signal in parsed.signals] == kinds
    assert sum(skip.malformed for skip in parsed.skips) == malformed


def test_kinds_are_complete_only_when_everything_answered() -> None:
    def kinds(*fetched: Fetched) -> Iterable[str]:
        pages = tuple(one for each in fetched for one in each.pages)
        return Gcp(ProviderSettings()).parse(Fetched(pages), NOW).signal_kinds

    capacity = said(recorded("capacity"))
    assert kinds(page(CAPACITY, capacity)) == {"obtainability", "estimated_uptime"}
    assert kinds(page(PREEMPTION, said({}))) == {"preemption_rate"}
    assert kinds(
        page(CAPACITY, capacity, whole=False), page(PREEMPTION, said({}), whole=False)
    ) == (frozenset())
    assert kinds() == frozenset()


# --- questions --------------------------------------------------------------------------------


def test_the_questions() -> None:
    assert ask_history("g2-standard-4", "PRICE") == {
        "types": ["PRICE"],
        "instanceProperties": {
            "machineType": "g2-standard-4",
            "scheduling": {"provisioningModel": "SPOT"},
        },
    }
    asked = ask_capacity("g2-standard-4", ("europe-west4-a",))
    assert asked["distributionPolicy"] == {
        "targetShape": "ANY",
        "zones": [{"zone": "zones/europe-west4-a"}],
    }
    selections = asked["instanceFlexibilityPolicy"]["instanceSelections"]
    assert [one["machineTypes"] for one in selections.values()] == [["g2-standard-4"]]
    assert asked["size"] == 1
    assert ask_capacity("g2-standard-4", ())["distributionPolicy"] == {"targetShape": "ANY"}


# --- beside the repository --------------------------------------------------------------------


def test_recorded_answers_are_read(shared_recordings: Path) -> None:
    folder = shared_recordings / "gcp"
    later = at(10, 1)

    def as_g2(name: str) -> dict[str, Any]:
        return said((folder / f"{name}.json").read_bytes())

    (live,) = signals(page(PREEMPTION, as_g2("advice_capacity_history_live_frame_2026-08")), later)
    assert (live.low, live.observed_at) == (Decimal("0.0"), at(9, 16))  # 14 days in one record
    (documented,) = signals(page(PREEMPTION, as_g2("advice_capacity_history_docs_example")), later)
    assert (documented.low, documented.observed_at) == (Decimal("0.31"), at(4, 21))
    obtainable, uptime = signals(page(CAPACITY, as_g2("advice_capacity_docs_example")))
    assert (obtainable.low, uptime.low) == (Decimal("0.9"), Decimal(600))
    fetched = page(PRICE_HISTORY, as_g2("advice_capacity_history_live_frame_2026-08"))
    assert rows(Gcp(ProviderSettings()).parse_history(fetched, later)) == [
        ("0.110192 USD", at(8, 24), at(8, 29))
    ]
