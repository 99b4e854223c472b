"""AWS: what the rows of its feeds mean."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import RECORDINGS

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Provider, ProviderSettings
from arbiter.testing import ProviderContract
from arbiter_providers.aws import Aws

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
REGION = "eu-central-1"


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / "aws" / f"{name}.json").read_bytes())


def price_list_rows() -> list[dict[str, str]]:
    lines = (RECORDINGS / "aws" / f"price-list-{REGION}.csv").read_text().splitlines()
    return list(csv.DictReader(lines[5:]))


def account() -> Fetched:
    """A poll with credentials."""
    return Fetched(
        (
            Page("instance-types", REGION, recorded("instance-types")),
            Page("availability-zones", REGION, recorded("availability-zones")),
            Page("spot-price-history", REGION, recorded("spot-price-history")),
            Page("products", REGION, recorded("products")),
        )
    )


def public() -> Fetched:
    """A poll without."""
    feed = {"regions": [REGION, "eu-west-1"], "answer": json.dumps(recorded("spot")).encode()}
    return Fetched(
        (Page("spot-feed", "", feed), Page("price-list", REGION, {"rows": price_list_rows()}))
    )


@pytest.mark.usefixtures("no_aws_account")
class TestContractOfAnAccount(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Aws(settings)

    def recording(self) -> Fetched:
        return account()


@pytest.mark.usefixtures("no_aws_account")
class TestContractOfThePublicFeeds(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Aws(settings)

    def recording(self) -> Fetched:
        return public()


def parse(fetched: Fetched, now: datetime = NOW) -> Parsed:
    return Aws(ProviderSettings()).parse(fetched, now)


def table(parsed: Parsed, purchase: Purchase) -> dict[tuple[str, str | None, str], str]:
    return {
        (offer.region, offer.zone, offer.instance_type): str(offer.price)
        for offer in parsed.offers
        if offer.purchase is purchase
    }


def reasons(parsed: Parsed, *, malformed: bool = False) -> Counter[str]:
    return Counter(skip.reason for skip in parsed.skips if skip.malformed is malformed)


def test_spot_prices_of_an_account_stand_under_stable_zones() -> None:
    assert table(parse(account()), Purchase.SPOT) == {
        (REGION, "euc1-az2", "g6.xlarge"): "0.4392 USD",
        (REGION, "euc1-az3", "g6.xlarge"): "0.4424 USD",
        (REGION, "euc1-az2", "p4d.24xlarge"): "27.433 USD",
        (REGION, "euc1-az3", "p5.48xlarge"): "31.1 USD",
        (REGION, "euc1-az2", "g4ad.xlarge"): "0.15 USD",
        (REGION, "euc1-az2", "g5g.xlarge"): "0.19 USD",
    }


def test_a_spot_price_took_effect_at_its_change() -> None:
    (offer,) = [o for o in parse(account()).offers if o.instance_type == "p5.48xlarge"]
    assert offer.priced_at == datetime(2026, 11, 9, 11, tzinfo=UTC)


def test_on_demand_prices_of_an_account() -> None:
    parsed = parse(account())
    assert table(parsed, Purchase.ON_DEMAND) == {
        (REGION, None, "g6.xlarge"): "1.0064 USD",
        (REGION, None, "p4d.24xlarge"): "27.43298 USD",
    }
    assert reasons(parsed)["no on-demand price"] == 1
    assert reasons(parsed)["not valid yet"] == 2  # one of each feed


def test_an_account_covers_both_purchases() -> None:
    assert parse(account()).covered == {(REGION, Purchase.SPOT), (REGION, Purchase.ON_DEMAND)}


def without(fetched: Fetched, feed: str) -> Fetched:
    return Fetched(tuple(page for page in fetched.pages if page.feed != feed))


def test_spot_is_not_covered_where_the_types_had_to_come_from_the_table() -> None:
    parsed = parse(without(account(), "instance-types"))
    assert (REGION, Purchase.SPOT) not in parsed.covered
    assert (REGION, "euc1-az3", "p5.48xlarge") in table(parsed, Purchase.SPOT)


@pytest.mark.parametrize("feed", ["spot-price-history", "products", "instance-types"])
def test_pages_that_were_cut_short_are_not_covered(feed: str) -> None:
    pages = [
        Page(p.feed, p.region, {**p.body, "NextToken": "more"}) if p.feed == feed else p
        for p in account().pages
    ]
    purchase = Purchase.ON_DEMAND if feed == "products" else Purchase.SPOT
    assert (REGION, purchase) not in parse(Fetched(tuple(pages))).covered


def test_a_zone_name_without_its_id_is_not_taken_for_an_id() -> None:
    parsed = parse(without(account(), "availability-zones"))
    assert reasons(parsed)["zone without a stable id"] == 1
    assert all(offer.zone != "eu-central-1b" for offer in parsed.offers)


def test_the_public_spot_feed() -> None:
    parsed = parse(public())
    assert table(parsed, Purchase.SPOT) == {
        (REGION, None, "g6.xlarge"): "0.4402 USD",
        (REGION, None, "g6.12xlarge"): "2.4333 USD",
        (REGION, None, "p4d.24xlarge"): "11.202 USD",
        (REGION, None, "g6e.xlarge"): "0.5 USD",
        ("eu-west-1", None, "g4dn.xlarge"): "0.2105 USD",
        ("eu-west-1", None, "p3.2xlarge"): "1.3 USD",
    }
    assert {o.priced_at for o in parsed.offers if o.purchase is Purchase.SPOT} == {None}
    assert reasons(parsed)["not offered as spot"] == 1
    assert not reasons(parsed, malformed=True)


def test_the_public_price_list() -> None:
    parsed = parse(public())
    assert table(parsed, Purchase.ON_DEMAND) == {
        (REGION, None, "g6.xlarge"): "1.0064 USD",
        (REGION, None, "p4d.24xlarge"): "27.43298 USD",
        (REGION, None, "g6e.xlarge"): "2.3265 USD",
    }
    left_out = reasons(parsed)
    assert left_out["not Linux"] == 2
    assert left_out["not on-demand"] == 2  # a reservation and a capacity block
    assert left_out["not shared tenancy"] == 1
    assert left_out["capacity reservation"] == 1
    assert left_out["software in the price"] == 1
    assert left_out["no on-demand price"] == 1
    assert left_out["GPU machine that is not in the table"] == 1


@pytest.mark.parametrize("odd", [None, 17, {"instanceTypes": []}, {"region": ""}])
def test_a_region_of_the_public_feed_that_cannot_be_read_harms_no_other(odd: Any) -> None:
    feed = recorded("spot")
    sound = parse(Fetched((Page("spot-feed", "", json.dumps(feed)),)))
    feed["config"]["regions"].insert(0, odd)
    parsed = parse(Fetched((Page("spot-feed", "", json.dumps(feed)),)))
    assert (parsed.offers, parsed.covered) == (sound.offers, sound.covered)
    assert len(parsed.skips) == len(sound.skips) + 1


def test_a_region_of_the_public_feed_is_not_whole_without_one_of_its_families() -> None:
    feed = recorded("spot")
    region = feed["config"]["regions"][0]
    region["instanceTypes"].append({"type": "gpuCurrentGen", "sizes": "none"})
    parsed = parse(Fetched((Page("spot-feed", "", json.dumps(feed)),)))
    assert any(offer.region == region["region"] for offer in parsed.offers)
    assert (region["region"], Purchase.SPOT) not in parsed.covered
    assert reasons(parsed, malformed=True).total() == 1


def test_the_public_feeds_cover_what_they_were_asked_for_and_have() -> None:
    assert parse(public()).covered == {
        (REGION, Purchase.SPOT),
        ("eu-west-1", Purchase.SPOT),
        (REGION, Purchase.ON_DEMAND),
    }


def test_one_of_the_two_feeds_alone_still_counts() -> None:
    assert table(parse(without(public(), "spot-feed")), Purchase.ON_DEMAND)
    assert table(parse(without(public(), "price-list")), Purchase.SPOT)


def test_the_simulated_price_of_2006_is_reported_and_not_believed() -> None:
    dummy = {
        "AvailabilityZone": "eu-central-1a",
        "InstanceType": "g6.xlarge",
        "ProductDescription": "Linux/UNIX (Amazon VPC)",
        "SpotPrice": "0.00001",
        "Timestamp": datetime(2006, 1, 2, 15, 4, 5, tzinfo=UTC),
    }
    parsed = parse(spot(dummy))
    assert not parsed.offers
    assert reasons(parsed, malformed=True) == {"spot price older than 100 days": 1}


def spot(*rows: Any) -> Fetched:
    zones = Page("availability-zones", REGION, recorded("availability-zones"))
    return Fetched((zones, Page("spot-price-history", REGION, {"SpotPriceHistory": list(rows)})))


def spot_row(**changes: Any) -> dict[str, Any]:
    row = {**recorded("spot-price-history")["SpotPriceHistory"][0], **changes}
    return {key: value for key, value in row.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SpotPrice": "0"}, "price is 0"),
        ({"SpotPrice": "-1"}, "price is negative"),
        ({"SpotPrice": "NaN"}, "price is not a number"),
        ({"SpotPrice": None}, "price is not a number"),
        ({"SpotPrice": 0.5}, "row of the wrong shape"),
        ({"InstanceType": None}, "row without InstanceType"),
        ({"Timestamp": None}, "row without Timestamp"),
        ({"Timestamp": "today"}, "row of the wrong shape"),
    ],
)
def test_a_malformed_spot_row_is_reported_and_harms_no_other(
    changes: dict[str, Any], reason: str
) -> None:
    sound = spot_row(AvailabilityZoneId="euc1-az1")
    parsed = parse(spot(spot_row(**changes), sound))
    assert [offer.zone for offer in parsed.offers] == ["euc1-az1"]
    (skip,) = parsed.skips
    assert skip.malformed
    assert skip.reason.startswith(reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
SPOT_KEYS = st.sampled_from(sorted(spot_row(AvailabilityZoneId="x")))


# The first examples may be slow to come on a loaded machine, which is no fault of the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(st.dictionaries(SPOT_KEYS, JSON))
def test_no_spot_row_is_strange_enough_to_stop_the_others(changes: dict[str, Any]) -> None:
    sound = spot_row(AvailabilityZoneId="euc1-az9")
    parsed = parse(spot({**spot_row(), **changes}, sound))
    assert any(offer.zone == "euc1-az9" for offer in parsed.offers)


@patient
@given(st.lists(JSON | st.dictionaries(st.sampled_from(["product", "terms"]), JSON), max_size=3))
def test_no_product_is_strange_enough_to_stop_the_others(rows: list[Any]) -> None:
    body = {"PriceList": [*rows, *recorded("products")["PriceList"]]}
    parsed = parse(Fetched((Page("products", REGION, body),)))
    assert (REGION, None, "g6.xlarge") in table(parsed, Purchase.ON_DEMAND)


@patient
@given(
    st.lists(
        JSON | st.dictionaries(st.sampled_from(sorted(price_list_rows()[0])), st.text()), max_size=3
    )
)
def test_no_listed_row_is_strange_enough_to_stop_the_others(rows: list[Any]) -> None:
    body = {"rows": [*rows, *price_list_rows()]}
    parsed = parse(Fetched((Page("price-list", REGION, body),)))
    assert (REGION, None, "g6.xlarge") in table(parsed, Purchase.ON_DEMAND)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["size", "valueColumns", "name"]), inner)
    ),
    max_leaves=6,
)


@patient
@given(st.lists(PLAIN, max_size=3))
def test_no_size_of_the_feed_is_strange_enough_to_stop_the_others(sizes: list[Any]) -> None:
    feed = recorded("spot")
    feed["config"]["regions"][0]["instanceTypes"][0]["sizes"][:0] = sizes
    parsed = parse(Fetched((Page("spot-feed", "", json.dumps(feed)),)))
    assert (REGION, None, "g6.xlarge") in table(parsed, Purchase.SPOT)


@patient
@given(st.lists(JSON, max_size=3))
def test_no_described_machine_is_strange_enough(items: list[Any]) -> None:
    pages = [Page("instance-types", REGION, {"InstanceTypes": items}), *account().pages]
    assert parse(Fetched(tuple(pages))).offers == parse(account()).offers


@pytest.mark.parametrize("page", [Page("new-feed", "", {}), Page("products", REGION, {"x": 1})])
def test_a_page_that_nobody_asked_for_is_a_bad_answer(page: Page) -> None:
    with pytest.raises(BadAnswer, match="another shape"):
        parse(Fetched((page,)))


# The larger recordings


def test_a_window_of_spot_history_gives_the_price_at_its_end(shared_recordings: Path) -> None:
    name = "describe_spot_price_history_us-east-1_g4dn.xlarge_2021-03_2021-05_all_os.json"
    history = json.loads((shared_recordings / "aws" / name).read_bytes())
    ids = {f"us-east-1{letter}": f"use1-az{n}" for n, letter in enumerate("abcdef", 1)}
    zones = {"AvailabilityZones": [{"ZoneName": n, "ZoneId": i} for n, i in ids.items()]}
    for now in (datetime(2021, 5, 31, tzinfo=UTC), datetime(2021, 4, 15, tzinfo=UTC)):
        expected: dict[str, str] = {}
        for row in history["SpotPriceHistory"]:  # newest first
            if row["ProductDescription"] == "Linux/UNIX" and row["Timestamp"] <= now.isoformat():
                expected.setdefault(ids[row["AvailabilityZone"]], row["SpotPrice"])
        parsed = parse(
            Fetched(
                (
                    Page("availability-zones", "us-east-1", zones),
                    Page("spot-price-history", "us-east-1", history),
                )
            ),
            now,
        )
        found = {offer.zone: offer.price.amount for offer in parsed.offers}
        assert {zone: float(price) for zone, price in expected.items()} == {
            zone: float(amount) for zone, amount in found.items()
        }


def test_the_real_spot_feed(shared_recordings: Path) -> None:
    body = (shared_recordings / "aws/spot_json_gpu_eu_2026-08-10.json").read_bytes()
    parsed = parse(Fetched((Page("spot-feed", "", body),)))
    offers: dict[tuple[str, str], PricedOffer] = {
        (offer.region, offer.instance_type): offer for offer in parsed.offers
    }
    assert len(offers) == 87
    assert str(offers["eu-central-1", "p3.2xlarge"].price) == "3.823 USD"
    assert offers["eu-north-1", "p5en.48xlarge"].gpu == "H200"
    assert not reasons(parsed, malformed=True)
