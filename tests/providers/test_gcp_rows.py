"""GCP: what the rows of the price list say, one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from gcp_lists import (
    G2,
    L4,
    NOW,
    ON_DEMAND,
    SPOT,
    listed,
    page,
    parse,
    prices,
    reasons,
    recording,
    row,
)
from hypothesis import given
from hypothesis import strategies as st

from arbiter.errors import BadAnswer
from arbiter.provider import Fetched, Page, Skip
from arbiter_providers.gcp import PRICES
from arbiter_providers.gcp_skus import NOT_GPU, OTHER_WAY, Part, part_of

# --- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("description", "usage", "part"),
    [
        ("Nvidia Tesla A100 GPU running in Americas", "OnDemand", ("gpu", "nvidia-tesla-a100")),
        ("Nvidia Tesla A100 80GB GPU running in Iowa", "OnDemand", ("gpu", "nvidia-a100-80gb")),
        ("Nvidia H100 80GB GPU running in Paris", "OnDemand", ("gpu", "nvidia-h100-80gb")),
        ("Nvidia H100 80GB Mega GPU running in X", "OnDemand", ("gpu", "nvidia-h100-mega-80gb")),
        ("Nvidia H100 80GB Plus GPU running in X", "OnDemand", ("gpu", "nvidia-h100-mega-80gb")),
        ("H200 141GB GPU running in Netherlands", "OnDemand", ("gpu", "nvidia-h200-141gb")),
        ("RTX 6000 96GB running in Belgium", "OnDemand", ("gpu", "nvidia-rtx-pro-6000")),
        ("A4 Nvidia B200 (1 gpu slice) running in X", "OnDemand", ("slice", "nvidia-b200")),
        ("A2 Instance Core running in Americas", "OnDemand", ("core", "A2")),
        ("A3Plus Instance Ram running in Tokyo", "OnDemand", ("ram", "A3PLUS")),
        ("A3 Ultra Instance Ram running in Tokyo", "OnDemand", ("ram", "A3ULTRA")),
        ("A3 High Instance Core running in Tokyo", "OnDemand", ("core", "A3")),
        ("SSD backed Local Storage", "OnDemand", ("ssd", "")),
        ("SSD backed Local Storage in Paris", "OnDemand", ("ssd", "")),
        ("A4 Instance Local SSD running in Paris", "OnDemand", ("ssd", "A4")),
    ],
)
def test_a_row_is_told_by_its_text(description: str, usage: str, part: tuple[str, str]) -> None:
    family = "Storage" if part[0] == "ssd" else "Compute"
    assert part_of(description, family, usage) == Part(*part, ON_DEMAND)


@pytest.mark.parametrize(
    ("description", "usage", "part"),
    [
        ("Nvidia L4 GPU attached to Spot Preemptible VMs running in X", "Preemptible", "nvidia-l4"),
        ("Nvidia L4 GPU attached to Preemptible VMs running in X", "Preemptible", "nvidia-l4"),
        ("RTX 6000 96GB attached to Spot Preemptible VMs running in X", "Preemptible", None),
        ("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in X", "OnDemand", "nvidia-b200"),
        ("Spot Preemptible A2 Instance Core running in X", "Preemptible", "A2"),
        ("Preemptible A2 Instance Core running in X", "Preemptible", "A2"),
        ("SSD backed Local Storage attached to Spot Preemptible VMs in X", "OnDemand", ""),
        ("SSD backed Local Storage attached to Spot Preemptible VMs", "Preemptible", ""),
    ],
)
def test_spot_is_told_by_usage_or_by_text(description: str, usage: str, part: str | None) -> None:
    found = part_of(description, "Compute", usage)
    assert isinstance(found, Part)
    assert found.purchase is SPOT
    assert part is None or found.of == part


@pytest.mark.parametrize(
    "description",
    [
        "Commitment v1: Nvidia L4 GPU running in Netherlands for 1 Year",
        "Reserved Nvidia H100 80GB Mega GPU in Americas in Calendar Mode",
        "Nvidia H100 80GB Mega GPU running in Americas in Calendar Mode",
        "Nvidia H100 Mega 80GB GPU attached to DWS Defined Duration VMs running in Americas",
        "DWS Calendar Mode A4 Nvidia B200 (1 gpu slice) running in Americas",
        "Nvidia Tesla T4 GPU attached to Sole Tenancy VMs running in Americas",
        "Nvidia L4 Virtual Workstation GPU running in Netherlands",
        "1/8 vGPU no lssd running in Iowa",
        "Nvidia L4 GPU Extended running in Netherlands",
    ],
)
def test_another_way_to_buy_is_no_price(description: str) -> None:
    assert part_of(description, "Compute", "OnDemand") == OTHER_WAY


def test_a_commitment_is_told_by_its_usage_type_too() -> None:
    assert part_of(L4, "Compute", "Commit1Yr") == OTHER_WAY
    assert part_of("A2 Instance Core running in X", "Compute", "Commit3Yr") == OTHER_WAY


@pytest.mark.parametrize(
    ("description", "family", "reason"),
    [
        ("Network Data Transfer Out from Seoul", "Network", NOT_GPU.reason),
        ("N2 Instance Core running in Paris", "Compute", NOT_GPU.reason),
        ("Custom Instance Core running in Paris", "Compute", NOT_GPU.reason),
        ("Reserved A2 Ram in Netherlands", "Compute", NOT_GPU.reason),
        ("Storage PD Capacity in Paris", "Storage", NOT_GPU.reason),
        ("Nvidia L4 GPU running in Paris", "License", NOT_GPU.reason),
        ("Nvidia Tesla T4 GPU running in X", "Compute", "GPU that has no machine type of its own"),
        ("Nvidia X9000 GPU running in X", "Compute", "GPU that is not in the table"),
    ],
)
def test_what_is_no_part_of_ours_is_left_out(description: str, family: str, reason: str) -> None:
    found = part_of(description, family, "OnDemand")
    assert isinstance(found, Skip)
    assert (found.reason, found.malformed) == (reason, False)


def test_no_row_of_the_recording_is_malformed() -> None:
    assert not reasons(parse(recording()).skips, malformed=True)


def l4_price(*rows: Any, now: datetime = NOW) -> str:
    parsed = parse(Fetched((page(*rows, *G2),)), now=now)
    return prices(parsed, ON_DEMAND)["europe-west4", "g2-standard-4"]


BASE = Decimal("0.128")  # 4 * 0.02 + 16 * 0.003


@pytest.mark.parametrize(
    ("changed", "price"),
    [
        ({}, "0.5"),
        ({"money": {"units": "3", "nanos": 250_000_000}}, "3.25"),
        ({"money": {"units": 3}}, "3.5"),
        (
            {
                "tiers": [
                    {"unitPrice": {"currencyCode": "USD", "units": "9"}},
                    {"startUsageAmount": 10, "unitPrice": {"currencyCode": "USD", "units": "2"}},
                ]
            },
            "2",
        ),
    ],
)
def test_units_and_nanos_make_a_price(changed: dict[str, Any], price: str) -> None:
    assert l4_price(row(L4, "0.5", **changed)) == f"{(Decimal(price) + BASE).normalize()} USD"


def test_the_newest_price_that_has_taken_effect_counts() -> None:
    old, new, future = (
        row(L4, p, since=f"{s}T08:00:00Z")
        for p, s in (("0.4", "2026-09-01"), ("0.5", "2026-11-01"), ("0.6", "2026-12-01"))
    )
    in_one = {**old, "pricingInfo": [one["pricingInfo"][0] for one in (new, future, old)]}
    assert l4_price(in_one) == "0.628 USD"
    for rows in ((old, new, future), (future, new, old)):
        assert l4_price(*rows) == "0.628 USD"
    assert l4_price(in_one, now=datetime(2026, 12, 2, tzinfo=UTC)) == "0.728 USD"
    only_future = listed(future, *G2)
    assert reasons(only_future.skips, malformed=False)["not valid yet"] == 1


def test_of_two_rows_as_new_the_dearer_counts() -> None:
    cheap, dear = row(L4, "0.4"), row(L4, "0.5")
    assert l4_price(cheap, dear) == l4_price(dear, cheap) == "0.628 USD"
    parsed = listed(cheap, dear, *G2)
    assert reasons(parsed.skips, malformed=False)["older row of the same part"] == 1


def test_memory_may_be_priced_by_the_decimal_gigabyte() -> None:
    by_gb = row("G2 Instance Ram running in X", "0.003", unit="GBy.h")
    # 4 * 0.02 + 0.5 + 16 * 0.003 * 1.073741824
    parsed = listed(row(L4, "0.5"), G2[0], by_gb)
    assert prices(parsed, ON_DEMAND)["europe-west4", "g2-standard-4"] == "0.63154 USD"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"money": {"units": "0", "nanos": 0}}, "price is 0"),
        ({"money": {"units": "-1"}}, "price is negative"),
        ({"money": {"units": "one"}}, "price is not a number"),
        ({"money": {"units": "NaN"}}, "price is not a number"),
        ({"money": {"units": "Infinity"}}, "price is not a number"),
        ({"money": {"currencyCode": "EUR"}}, "currency is EUR, asked for USD"),
        ({"money": {"currencyCode": ""}}, "currency is , asked for USD"),
        ({"tiers": []}, "row without tieredRates"),
        ({"unit": "mo"}, "unit of gpu is mo"),
        ({"unit": "GiBy.h"}, "unit of gpu is GiBy.h"),
        ({"since": "2026-11-01T08:00:00"}, "effectiveTime without a time zone"),
        ({"pricingInfo": []}, "row without pricingInfo"),
        ({"serviceRegions": []}, "row without serviceRegions"),
    ],
)
def test_a_row_that_cannot_be_right_is_counted(changed: dict[str, Any], reason: str) -> None:
    parsed = listed(row(L4, "0.5", **changed), *G2)
    assert reasons(parsed.skips, malformed=True) == {reason: 1}
    assert parsed.offers == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"description": None},
        {"description": 7},
        {"category": "GPU"},
        {"pricingInfo": None},
        {"pricingInfo": [{}]},
        {"serviceRegions": None},
        {"serviceRegions": "europe-west4"},
        {"money": {"nanos": "1"}},
        {"money": {"nanos": 1.5}},
        {"money": {"units": True}},
        {"since": "yesterday"},
    ],
)
def test_a_row_of_another_shape_is_counted_and_harms_no_other(changed: dict[str, Any]) -> None:
    changed = dict(changed)
    description = {key: changed.pop(key) for key in ("description",) if key in changed}
    broken = {**row(L4, "0.5", **changed), **description}
    broken = {key: value for key, value in broken.items() if value is not None}
    parsed = listed(broken, row(L4, "0.7"), *G2)
    assert sum(reasons(parsed.skips, malformed=True).values()) == 1
    assert prices(parsed, ON_DEMAND)["europe-west4", "g2-standard-4"] == "0.828 USD"


@pytest.mark.parametrize("odd", [None, 1, "row", [], {}])
def test_what_is_no_row_is_counted(odd: Any) -> None:
    assert sum(reasons(listed(odd, *G2).skips, malformed=True).values()) == 1


def test_an_unlikely_sum_is_malformed() -> None:
    parsed = listed(row(L4, "999999"), *G2)
    assert reasons(parsed.skips, malformed=True) == {"price is above 100000 an hour": 8}


@given(st.binary(max_size=200))
def test_bytes_that_are_no_page_are_a_bad_answer(body: bytes) -> None:
    try:
        parsed = parse(Fetched((Page(PRICES, "", body),)))
    except BadAnswer:
        return
    assert parsed.offers == ()
    assert parsed.covered == frozenset()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(["description", "category", "serviceRegions", "pricingInfo"]), JSON)
def test_no_value_of_a_row_breaks_the_others(key: str, value: Any) -> None:
    parsed = listed({**row(L4, "0.5"), key: value}, row(L4, "0.7"), *G2)
    found = prices(parsed, ON_DEMAND).get(("europe-west4", "g2-standard-4"))
    assert found == "0.828 USD"
