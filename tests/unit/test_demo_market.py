"""The demo's market: what stands when, what is malformed, and whether the shipped one is true."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.demo import make_market
from arbiter.demo.market import Happening, Market
from arbiter.domain import OfferKey, Purchase
from arbiter.errors import SettingsError
from arbiter.money import Price
from arbiter.regions import load_atlas
from arbiter.resources import resource_dir

SHIPPED = resource_dir("data") / "demo"
KEPT = Market.load(SHIPPED)  # a market does not change
SPOT = OfferKey("aws", "standard", "eu-north-1", "eun1-az1", "g6.xlarge", Purchase.SPOT)
ON_DEMAND = OfferKey("aws", "standard", "eu-north-1", None, "g6.xlarge", Purchase.ON_DEMAND)

TOML = """
name = "small"
simulated = true
description = "one machine"
provenance = "written for a test"
starts = 2026-10-31T18:00:00Z
seconds = 1000
[machines]
"g6.xlarge" = { gpu = "L4", gpu_count = 1 }
"""
HEADER = "seconds,event,provider,region,zone,instance_type,purchase,usd_hour\n"
ROWS = """\
0,price,aws,eu-north-1,,g6.xlarge,on_demand,0.8536
0,price,aws,eu-north-1,eun1-az1,g6.xlarge,spot,0.25
100,price,aws,eu-north-1,eun1-az1,g6.xlarge,spot,0.30
200,reclaim,aws,eu-north-1,eun1-az1,g6.xlarge,spot,
200,closed,aws,eu-north-1,eun1-az1,g6.xlarge,spot,
300,open,aws,eu-north-1,eun1-az1,g6.xlarge,spot,
"""


def written(folder: Path, rows: str = ROWS, toml: str = TOML, header: str = HEADER) -> Path:
    (folder / "market.toml").write_text(toml)
    (folder / "market.csv").write_text(header + rows)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Market:
    return Market.load(written(tmp_path))


@pytest.fixture
def shipped() -> Market:
    return KEPT


def spot_price(market: Market, seconds: float) -> Price:
    (price,) = (o.price for o in market.offers_at("aws", seconds) if o.purchase is Purchase.SPOT)
    return price


@pytest.mark.parametrize(
    ("seconds", "usd"), [(0, "0.25"), (99.9, "0.25"), (100, "0.30"), (250, "0.30"), (999, "0.30")]
)
def test_a_price_stands_until_the_next(small: Market, seconds: float, usd: str) -> None:
    assert spot_price(small, seconds) == Price.of(usd)


def test_an_offer_is_whole_and_marked_as_simulated(small: Market) -> None:
    on_demand, spot = small.offers_at("aws", 0)
    assert (spot.region, spot.zone, spot.gpu, spot.gpu_count) == ("eu-north-1", "eun1-az1", "L4", 1)
    assert on_demand.zone is None
    assert {on_demand.source, spot.source} == {"demo:market"}
    assert small.offers_at("azure", 0) == []


def test_it_is_known_since_when_a_price_stands(small: Market) -> None:
    assert [since for _, since in small.standing_at("aws", 250)] == [0, 100]


@pytest.mark.parametrize(("seconds", "closed"), [(199, False), (200, True), (300, False)])
def test_a_place_is_closed_until_it_opens(small: Market, seconds: float, closed: bool) -> None:
    assert (SPOT in small.closed_at(seconds)) is closed
    assert ON_DEMAND not in small.closed_at(seconds)


def test_events_are_those_after_one_instant_and_up_to_another(small: Market) -> None:
    assert [e.happening for e in small.events_between(100, 200)] == ["reclaim", "closed"]
    assert [e.happening for e in small.events_between(99, 100)] == ["price"]
    assert small.events_between(200, 299) == []
    assert len(small.events_between(-1, 1000)) == 6


@given(st.lists(st.floats(-1, make_market.LENGTH), min_size=3, max_size=3).map(sorted))
def test_spans_that_meet_tell_every_event_once(cuts: list[float]) -> None:
    market = KEPT
    a, b, c = cuts
    assert market.events_between(a, c) == market.events_between(a, b) + market.events_between(b, c)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("0,price,aws,eu-north-1,,g6.xlarge,spot,0\n", "line 2: not a price above zero: '0'"),
        ("0,price,aws,eu-north-1,,g6.xlarge,spot,\n", "line 2: not an amount of money: ''"),
        ("0,price,aws,eu-north-1,,g6.xlarge,spot,nan\n", "line 2: not an amount of money: 'nan'"),
        ("0,price,aws,eu-north-1,,g9.xlarge,spot,1\n", "line 2: market.toml has no machine 'g9."),
        ("0,flood,aws,eu-north-1,,g6.xlarge,spot,1\n", "line 2: 'flood' is not a valid Happening"),
        ("0,price,aws,eu-north-1,,g6.xlarge,free,1\n", "line 2: 'free' is not a valid Purchase"),
        ("0,price,aws,eu-north-1,,g6.xlarge,spot\n", "line 2: there must be 8 columns"),
        ("0,price,aws,eu-north-1,,g6.xlarge,spot,1,2\n", "line 2: there must be 8 columns"),
        ("1000,price,aws,eu-north-1,,g6.xlarge,spot,1\n", "line 2: second 1000 is outside"),
        ("soon,price,aws,eu-north-1,,g6.xlarge,spot,1\n", "line 2: invalid literal for int"),
        ("5,price,aws,eu-north-1,,g6.xlarge,spot,1\n", "line 2: .* has no price at second 0"),
        (ROWS + "250,reclaim,aws,eu-north-1,,g6.xlarge,on_demand,\n", "line 8: earlier than"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, rows: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=rf"market\.csv, {reason}"):
        Market.load(written(tmp_path, rows))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("simulated = true", "simulated = false", "must say simulated = true"),
        ("simulated = true\n", "", "must say simulated = true"),
        ('"L4"', '"L5"', "not GPUs that arbiter knows: L5"),
        ("2026-10-31T18:00:00Z", "2026-10-31T18:00:00", "instant with its time zone"),
        ("seconds = 1000", "", "missing or of the wrong kind: 'seconds'"),
        ("seconds = 1000", "seconds = 1000 1000", "market.toml: "),
        ("gpu_count = 1", "gpu_count = 'one'", "missing or of the wrong kind"),
    ],
)
def test_a_malformed_description_is_one_clear_line(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    assert old in TOML
    with pytest.raises(SettingsError, match=reason) as refused:
        Market.load(written(tmp_path, toml=TOML.replace(old, new)))
    assert "\n" not in str(refused.value)


def test_missing_files_and_headers_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"market\.toml: .*No such file"):
        Market.load(tmp_path)
    written(tmp_path, header="a,b\n")
    with pytest.raises(SettingsError, match="first line must be seconds,event,provider"):
        Market.load(tmp_path)
    (tmp_path / "market.csv").unlink()
    with pytest.raises(SettingsError, match=r"market\.csv: No such file"):
        Market.load(tmp_path)


def test_the_shipped_market_is_what_its_script_writes() -> None:
    again = io.StringIO()
    make_market.write(again)
    assert (SHIPPED / "market.csv").read_text() == again.getvalue()


def test_the_shipped_market_says_that_it_is_simulated(shipped: Market) -> None:
    assert "No row is a recording" in shipped.provenance
    assert shipped.seconds == make_market.LENGTH


def test_spot_never_costs_more_than_on_demand(shipped: Market) -> None:
    for event in shipped.events_between(-1, shipped.seconds):
        if event.price is not None and event.key.purchase is Purchase.SPOT:
            (on_demand,) = (
                offer.price
                for offer in shipped.offers_at(event.key.provider, event.seconds)
                if offer.purchase is Purchase.ON_DEMAND
                and offer.region == event.key.region
                and offer.instance_type == event.key.instance_type
            )
            assert event.price <= on_demand, event


def test_every_place_is_known_and_some_are_refused_by_an_eu_rule(shipped: Market) -> None:
    atlas = load_atlas()
    countries = {
        atlas.place(provider, offer.region).country
        for provider in shipped.providers
        for offer in shipped.offers_at(provider, 0)
    }
    assert None not in countries
    assert {"GB", "CH", "NO", "US"} <= countries
    assert {"SE", "DE", "FR", "IE", "PL", "IT"} <= countries


def test_aws_spot_moves_a_few_times_a_day_and_azure_once_a_month(shipped: Market) -> None:
    moves = [
        event
        for event in shipped.events_between(0, shipped.seconds)
        if event.happening is Happening.PRICE
    ]
    assert {event.key.purchase for event in moves} == {Purchase.SPOT}
    azure = [event for event in moves if event.key.provider == "azure"]
    assert {event.seconds for event in azure} == {make_market.MONTH_TURN}
    aws = [event for event in moves if event.key.provider == "aws"]
    per_day = len(aws) / len({event.key for event in aws}) / 3
    assert 2 < per_day < 6
    assert max(event.price.amount for event in aws if event.price) < Decimal("13.12")


def test_the_first_hours_hold_a_reclaim_a_month_turn_and_a_shortage_of_all_spot(
    shipped: Market,
) -> None:
    early = shipped.events_between(0, 12 * 3600)
    assert {event.happening for event in early} == set(Happening)
    sold = {
        (provider, offer.region, offer.zone, offer.instance_type, offer.purchase)
        for provider in shipped.providers
        for offer in shipped.offers_at(provider, 0)
    }
    shortage = shipped.closed_at(10.5 * 3600)
    closed = {(k.provider, k.region, k.zone, k.instance_type, k.purchase) for k in shortage}
    assert closed == {offer for offer in sold if offer[4] is Purchase.SPOT}


def test_every_closed_place_opens_again(shipped: Market) -> None:
    assert shipped.closed_at(shipped.seconds) == frozenset()
