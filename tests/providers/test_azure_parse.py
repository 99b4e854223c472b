"""Azure: which rows count, and what they say."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import RECORDINGS

from arbiter.domain import Purchase
from arbiter.money import Price
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Provider, ProviderSettings
from arbiter.testing import ProviderContract
from arbiter_providers.azure import Azure
from arbiter_providers.azure_sizes import gpu_of

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
H100 = "Standard_NC40ads_H100_v5"


def recorded(name: str) -> bytes:
    return (RECORDINGS / "azure" / f"{name}.json").read_bytes()


def recording() -> Fetched:
    return Fetched(
        tuple(
            Page("retail-prices", name.rpartition("-")[0], recorded(name))
            for name in ("westeurope-1", "westeurope-2", "swedencentral-1")
        )
    )


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Azure(settings)

    def recording(self) -> Fetched:
        return recording()


def parse(fetched: Fetched, now: datetime = NOW, regions: tuple[str, ...] = ()) -> Parsed:
    return Azure(ProviderSettings(regions=regions)).parse(fetched, now)


def row(**changes: Any) -> dict[str, Any]:
    """A sound on-demand row, changed; None as a value takes the key away."""
    rows: list[dict[str, Any]] = json.loads(recorded("swedencentral-1"))["Items"]
    changed = {**rows[0], **changes}
    return {key: value for key, value in changed.items() if value is not None}


def spot_row(price: float, start: str, end: str | None = None, **changes: Any) -> dict[str, Any]:
    spot = {"skuName": "NC40ads H100 v5 Spot", "meterName": "NC40ads H100 v5 Spot"}
    dates = {"effectiveStartDate": start, "effectiveEndDate": end}
    return row(retailPrice=price, **spot, **dates, **changes)


def page(*rows: Any, region: str = "swedencentral", link: str | None = None) -> Page:
    body = {"BillingCurrency": "USD", "Items": rows, "NextPageLink": link, "Count": len(rows)}
    return Page("retail-prices", region, json.dumps(body).encode())


def only(parsed: Parsed) -> PricedOffer:
    assert len(parsed.offers) == 1, parsed
    return parsed.offers[0]


def reasons(parsed: Parsed, *, malformed: bool | None = None) -> Counter[str]:
    return Counter(
        skip.reason for skip in parsed.skips if malformed is None or skip.malformed is malformed
    )


def prices(parsed: Parsed, purchase: Purchase) -> dict[tuple[str, str], str]:
    return {
        (offer.region, offer.instance_type): str(offer.price)
        for offer in parsed.offers
        if offer.purchase is purchase
    }


def test_on_demand_and_spot_of_the_recording() -> None:
    parsed = parse(recording())
    on_demand, spot = prices(parsed, Purchase.ON_DEMAND), prices(parsed, Purchase.SPOT)
    assert on_demand["westeurope", H100] == "9.08 USD"
    assert on_demand["swedencentral", H100] == "9.074 USD"
    assert on_demand["westeurope", "Standard_NC24ads_A100_v4"] == "4.775 USD"
    assert on_demand["westeurope", "Standard_NCC40ads_H100_v5"] == "8.31 USD"
    assert spot["westeurope", H100] == "8.172 USD"
    assert spot["swedencentral", H100] == "5.226624 USD"
    assert spot["westeurope", "Standard_ND96isr_H200_v5"] == "106 USD"


def test_gpus_of_the_recording() -> None:
    found = {o.instance_type: (o.gpu, o.gpu_count) for o in parse(recording()).offers}
    assert found == {
        H100: ("H100-NVL", 1),
        "Standard_NCC40ads_H100_v5": ("H100-NVL", 1),
        "Standard_NC24ads_A100_v4": ("A100-80GB", 1),
        "Standard_ND96asr_v4": ("A100-40GB", 8),
        "Standard_ND96amsr_A100_v4": ("A100-80GB", 8),
        "Standard_ND40rs_v2": ("V100-32GB", 8),
        "Standard_NC6s_v3": ("V100-16GB", 1),
        "Standard_NC4as_T4_v3": ("T4", 1),
        "Standard_NV36ads_A10_v5": ("A10", 1),
        "Standard_ND96isr_MI300X_v5": ("MI300X", 8),
        "Standard_ND96isr_H200_v5": ("H200", 8),
        "Standard_ND96isr_H100_v5": ("H100", 8),
    }


def test_what_is_left_out_of_the_recording_is_counted_by_reason() -> None:
    parsed = parse(recording())
    assert reasons(parsed, malformed=False) == {
        "no longer valid": 1,
        "not valid yet": 1,
        "Windows": 2,
        "cloud services": 1,
        "low priority, the older product": 1,
        "not pay-as-you-go": 2,
        "older row of the same offer": 1,
        "a fraction of a GPU": 2,
        "GPU size that is not in the table": 1,
        "not a GPU machine": 4,
    }
    assert reasons(parsed, malformed=True) == {"price is 0": 1, "price is negative": 1}


def test_every_region_with_its_last_page_is_covered_for_both_purchases() -> None:
    assert parse(recording()).covered == {
        (region, purchase)
        for region in ("westeurope", "swedencentral")
        for purchase in (Purchase.SPOT, Purchase.ON_DEMAND)
    }


def test_a_region_whose_pages_were_cut_short_is_not_covered() -> None:
    first_only = Fetched(recording().pages[:1])
    parsed = parse(first_only)
    assert parsed.offers
    assert parsed.covered == frozenset()


def test_a_price_is_exact_to_the_last_digit() -> None:
    text = page(row()).body.replace(b"9.074", b"0.1234565000000000000001")
    parsed = parse(Fetched((Page("retail-prices", "swedencentral", text),)))
    # As a float it would lie on the edge and round to the even 0.123456.
    assert only(parsed).price == Price.of(Decimal("0.123457"))


def test_a_price_took_effect_when_its_row_says() -> None:
    assert only(parse(Fetched((page(row()),)))).priced_at == datetime(2026, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "price"),
    [
        ("2026-10-31T23:58:59+00:00", "1 USD"),
        ("2026-10-31T23:59:59+00:00", "1 USD"),  # the minute between two months
        ("2026-11-01T00:00:00+00:00", "2 USD"),
        ("2026-11-30T23:59:30+00:00", "2 USD"),
    ],
)
def test_the_price_of_the_moment_is_chosen(now: str, price: str) -> None:
    months = page(
        spot_row(2, "2026-11-01T00:00:00Z", "2026-11-30T23:59:00Z"),
        spot_row(1, "2026-10-01T00:00:00Z", "2026-10-31T23:59:00Z"),
        spot_row(3, "2026-12-01T00:00:00Z", "2026-12-31T23:59:00Z"),
    )
    assert str(only(parse(Fetched((months,)), datetime.fromisoformat(now))).price) == price


def test_of_several_valid_rows_the_newest_start_wins_whatever_their_order() -> None:
    rows = [spot_row(n, f"2026-0{n}-01T00:00:00Z") for n in (3, 5, 4)]
    for order in (rows, rows[::-1]):
        assert str(only(parse(Fetched((page(*order),)))).price) == "5 USD"


def test_of_two_rows_of_one_start_the_primary_meter_wins_then_the_dearer() -> None:
    second = row(retailPrice=99.0, isPrimaryMeterRegion=False)
    dearer = row(retailPrice=9.5)
    assert str(only(parse(Fetched((page(second, row(), dearer),)))).price) == "9.5 USD"


def test_a_server_that_ignores_the_filter_still_gives_right_results() -> None:
    everything = [
        *json.loads(recorded("westeurope-1"))["Items"],
        *json.loads(recorded("westeurope-2"))["Items"],
        *json.loads(recorded("swedencentral-1"))["Items"],
    ]
    same_everywhere = Fetched(
        tuple(page(*everything, region=one) for one in ("westeurope", "swedencentral"))
    )
    assert set(parse(same_everywhere).offers) == set(parse(recording()).offers)


def test_regions_that_the_settings_name_are_the_only_ones_kept() -> None:
    parsed = parse(recording(), regions=("swedencentral",))
    assert {offer.region for offer in parsed.offers} == {"swedencentral"}
    assert reasons(parsed)["region that was not asked for"] > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"retailPrice": 0}, "price is 0"),
        ({"retailPrice": -0.5}, "price is negative"),
        ({"retailPrice": float("nan")}, "price is not a number"),
        ({"retailPrice": float("inf")}, "price is not a number"),
        ({"retailPrice": "soon"}, "row of the wrong shape"),
        ({"retailPrice": True}, "row of the wrong shape"),
        ({"retailPrice": None}, "row without retailPrice"),
        ({"retailPrice": 1e300}, "price is above"),
        ({"armSkuName": None}, "row without armSkuName"),
        ({"armRegionName": None}, "row without armRegionName"),
        ({"armRegionName": 7}, "row of the wrong shape"),
        ({"skuName": None}, "row without skuName"),
        ({"productName": None}, "row without productName"),
        ({"meterName": "NC40 Spot"}, "spot by its meter and not by its name"),
        ({"unitOfMeasure": None}, "row without unitOfMeasure"),
        ({"effectiveStartDate": None}, "row without effectiveStartDate"),
        ({"effectiveStartDate": "yesterday"}, "row of the wrong shape"),
        ({"effectiveStartDate": "2026-04-01T00:00:00"}, "row without effectiveStartDate"),
        ({"effectiveStartDate": "0001-01-01T00:00:00+14:00"}, "number or date out of range"),
        ({"effectiveEndDate": "9999-12-31T23:59:59Z"}, "number or date out of range"),
        ({"currencyCode": "EUR"}, "currency is EUR"),
    ],
)
def test_a_malformed_row_is_reported_and_harms_no_other(
    changes: dict[str, Any], reason: str
) -> None:
    sound = row(armRegionName="westeurope")
    parsed = parse(Fetched((page(row(**changes), sound),)))
    assert only(parsed).region == "westeurope"
    (skip,) = parsed.skips
    assert skip.malformed
    assert skip.reason.startswith(reason)
    assert skip.sample


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"productName": "Virtual Machines NCadsH100v5 Series Windows"}, "Windows"),
        ({"productName": "Virtual Machines NCCadsv5 Srs Win"}, "Windows"),
        ({"productName": "NCadsH100v5 Series CloudServices"}, "cloud services"),
        ({"type": "Reservation", "reservationTerm": "3 Years"}, "not pay-as-you-go"),
        ({"type": "DevTestConsumption"}, "not pay-as-you-go"),
        ({"serviceName": "Virtual Machines Licenses"}, "not a virtual machine"),
        ({"meterName": "NC40ads Expired"}, "expired meter"),
        ({"armSkuName": "Standard_NC6_Promo"}, "promotion"),
        ({"armSkuName": "Standard_NCv3_Type1"}, "dedicated host"),
        ({"unitOfMeasure": "1/Month"}, "not priced by the hour"),
        ({"tierMinimumUnits": 500.0}, "price from a higher tier"),
    ],
)
def test_what_is_not_a_linux_machine_by_the_hour_is_left_out(
    changes: dict[str, Any], reason: str
) -> None:
    parsed = parse(Fetched((page(row(**changes)),)))
    assert not parsed.offers
    assert [(skip.reason, skip.malformed) for skip in parsed.skips] == [(reason, False)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(row(effectiveEndDate="2027-01-01T00:00:00Z"))), JSON))
def test_no_row_is_strange_enough_to_stop_the_others(changes: dict[str, Any]) -> None:
    sound = row(armRegionName="westeurope")
    parsed = parse(Fetched((page({**row(), **changes}, sound),)))
    assert any(offer.region == "westeurope" for offer in parsed.offers)
    assert all(offer.price.micros > 0 for offer in parsed.offers)


@given(st.lists(JSON, max_size=4))
def test_rows_that_are_no_rows_are_skipped(rows: list[Any]) -> None:
    parsed = parse(Fetched((page(*rows),)))
    assert not parsed.offers


def test_an_unchanged_poll_gives_the_same_offers_and_a_changed_row_its_new_price() -> None:
    azure = Azure(ProviderSettings())
    first = azure.parse(recording(), NOW)
    assert azure.parse(recording(), NOW) == first
    changed = azure.parse(Fetched((page(row(retailPrice=7.5)),)), NOW)
    assert str(only(changed).price) == "7.5 USD"
    assert azure.parse(recording(), NOW) == first


def test_a_remembered_row_still_expires() -> None:
    azure = Azure(ProviderSettings())
    before = azure.parse(recording(), NOW)
    later = azure.parse(recording(), NOW + timedelta(days=60))
    assert prices(before, Purchase.SPOT)
    assert not prices(later, Purchase.SPOT)


@pytest.mark.parametrize(
    ("size", "means"),
    [
        ("Standard_NV6ads_A10_v5", "a fraction of a GPU"),
        ("Standard_NV18ads_A10_v5", "a fraction of a GPU"),
        ("Standard_NV20adms_A10_v5", "a fraction of a GPU"),
        ("Standard_NV72ads_A10_v5", ("A10", 2)),
        ("Standard_NV8as_v4", "a fraction of a GPU"),
        ("Standard_NP20s", "not a GPU machine"),
        ("Standard_ND96isr_B200_v6", ("B200", 8)),
        ("Standard_ND96isr_A100_v9", "GPU size that is not in the table"),
        ("Standard_ND128isr_NDR_GB200_v6", "GPU size that is not in the table"),
        ("Standard_D4s_v5", "not a GPU machine"),
        ("", "not a GPU machine"),
    ],
)
def test_sizes(size: str, means: object) -> None:
    assert gpu_of(size) == means


# The larger recordings


def test_rows_of_the_published_samples_are_all_understood(shared_recordings: Path) -> None:
    for file in sorted((shared_recordings / "azure").glob("sc_*retail_prices*.json")):
        parsed = parse(Fetched((Page("retail-prices", "", file.read_bytes()),)))
        assert not parsed.offers
        assert not reasons(parsed, malformed=True), file.name


def test_sizes_agree_with_the_catalog(shared_recordings: Path) -> None:
    catalog = shared_recordings.parent / "catalog" / "azure" / "vms.csv"
    loose = {"V100": "V100-16GB", "A100": "A100-40GB"}
    for line in catalog.read_text().splitlines()[1:]:
        size, gpu, count = line.split(",")[:3]
        known = gpu_of(size)
        if isinstance(known, str):
            assert known == "a fraction of a GPU", size
        else:
            assert known[1] == float(count), size
            assert known[0] in (loose.get(gpu, gpu), f"{gpu}-NVL"), size
