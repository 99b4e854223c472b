"""GCP: what the rows of the price list say, and how machines are added up from them."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_in_gcp import recorded

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.provider import Fetched, Page, Parsed, Provider, ProviderSettings, Skip
from arbiter.testing import ProviderContract
from arbiter_providers.gcp import ACCELERATOR_TYPES, MACHINE_TYPES, PRICES, Gcp
from arbiter_providers.gcp_skus import NOT_GPU, OTHER_WAY, Part, part_of

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SPOT, ON_DEMAND = Purchase.SPOT, Purchase.ON_DEMAND

LISTS = (
    Page(MACHINE_TYPES, "", recorded("machine-types")),
    Page(ACCELERATOR_TYPES, "", recorded("accelerator-types")),
)


def recording(*more: Page) -> Fetched:
    prices = [Page(PRICES, "", recorded(f"skus-{n}")) for n in (1, 2)]
    return Fetched((*prices, *more))


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Gcp(settings)

    def recording(self) -> Fetched:
        return recording()


class TestContractWithAnAccount(TestContract):
    def recording(self) -> Fetched:
        return recording(*LISTS)


def parse(fetched: Fetched, *regions: str, now: datetime = NOW) -> Parsed:
    return Gcp(ProviderSettings(regions=regions)).parse(fetched, now)


def row(description: str, price: str, *regions: str, **changes: Any) -> dict[str, Any]:
    """A row of the list, by default an hourly price on demand; None takes a key away."""
    units, _, rest = price.partition(".")
    money = {"currencyCode": "USD", "units": units, "nanos": int(rest.ljust(9, "0"))}
    money |= changes.pop("money", {})
    expression = {
        "usageUnit": changes.pop("unit", "h"),
        "tieredRates": changes.pop("tiers", [{"startUsageAmount": 0, "unitPrice": money}]),
    }
    since = changes.pop("since", "2026-11-01T08:00:00Z")
    made = {
        "description": description,
        "category": {
            "resourceFamily": changes.pop("family", "Compute"),
            "resourceGroup": "GPU",
            "usageType": changes.pop("usage", "OnDemand"),
        },
        "serviceRegions": list(regions) or ["europe-west4"],
        "pricingInfo": [{"pricingExpression": expression, "effectiveTime": since}],
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def ram(price: str, *regions: str, **changes: Any) -> dict[str, Any]:
    return row("G2 Instance Ram running in X", price, *regions, unit="GiBy.h", **changes)


G2 = (row("G2 Instance Core running in X", "0.02"), ram("0.003"))
L4 = "Nvidia L4 GPU running in X"


def page(*rows: Any, token: str = "") -> Page:
    return Page(PRICES, "", json.dumps({"skus": rows, "nextPageToken": token}).encode())


def listed(*rows: Any) -> Parsed:
    return parse(Fetched((page(*rows),)))


def prices(parsed: Parsed, purchase: Purchase) -> dict[tuple[str, str], str]:
    return {
        (one.region, one.instance_type): str(one.price)
        for one in parsed.offers
        if one.purchase is purchase
    }


def reasons(skips: Any, *, malformed: bool) -> Counter[str]:
    return Counter(skip.reason for skip in skips if skip.malformed is malformed)


# --- machines ---------------------------------------------------------------------------------


def test_machines_are_the_sum_of_their_parts() -> None:
    on_demand = prices(parse(recording()), ON_DEMAND)
    # 4 * 0.026518 + 16 * 0.003107 + 0.588631
    assert on_demand["europe-west4", "g2-standard-4"] == "0.744415 USD"
    # 12 * 0.034802 + 85 * 0.004664 + 2.933908
    assert on_demand["europe-west4", "a2-highgpu-1g"] == "3.747972 USD"
    # 96 * 0.034802 + 1360 * 0.004664 + 16 * 2.933908
    assert on_demand["europe-west4", "a2-megagpu-16g"] == "56.62656 USD"


def test_local_ssd_that_comes_with_the_machine_is_in_its_price() -> None:
    parsed = parse(recording())
    # 12 * 0.034802 + 170 * 0.004664 + 4.325173 + 375 * 0.088 / 730
    assert prices(parsed, ON_DEMAND)["europe-west4", "a2-ultragpu-1g"] == "5.580882 USD"
    # 208 * 0.0071 + 1872 * 0.000426 + 8 * 3.7155 + 6000 * 0.064 / 730
    assert prices(parsed, SPOT)["europe-west4", "a3-highgpu-8g"] == "32.524299 USD"


def test_a_gpu_slice_is_a_whole_machine_and_spot_by_its_text() -> None:
    parsed = parse(recording())
    assert prices(parsed, SPOT)["europe-west4", "a4-highgpu-8g"] == "39.6336 USD"
    assert ("europe-west4", "a4-highgpu-8g") not in prices(parsed, ON_DEMAND)


def test_mega_and_ultra_have_parts_of_their_own() -> None:
    spot = prices(parse(recording()), SPOT)
    # 208 * 0.0072 + 1872 * 0.00043 + 8 * 3.981 + 6000 * 0.064 / 730
    assert spot["europe-west4", "a3-megagpu-8g"] == "34.676587 USD"
    # 224 * 0.0081 + 2952 * 0.0007 * 1.073741824 + 8 * 4.4 + 12000 * 0.064 / 730
    assert spot["europe-west4", "a3-ultragpu-8g"] == "40.285235 USD"


def test_parts_of_a3_stand_in_for_those_of_mega_only_in_a_whole_list() -> None:
    rows = [one for n in (1, 2) for one in json.loads(recorded(f"skus-{n}"))["skus"]]
    without = [one for one in rows if "A3Plus" not in one["description"]]
    # 208 * 0.0071 + 1872 * 0.000426 + 8 * 3.981 + 6000 * 0.064 / 730
    key = ("europe-west4", "a3-megagpu-8g")
    assert prices(listed(*without), SPOT)[key] == "34.648299 USD"
    cut = parse(Fetched((page(*without, token="more"),)))
    assert key not in prices(cut, SPOT)


@pytest.mark.parametrize(
    "machine",
    ["a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g", "a3-ultragpu-8g", "a4-highgpu-8g"],
)
def test_what_cannot_be_ordered_on_demand_is_offered_as_spot_alone(machine: str) -> None:
    parsed = parse(recording())
    assert ("europe-west4", machine) in prices(parsed, SPOT)
    assert ("europe-west4", machine) not in prices(parsed, ON_DEMAND)
    assert ("europe-west4", "a3-highgpu-8g") in prices(parsed, ON_DEMAND)


def test_gpus_of_the_recording() -> None:
    found = {(o.instance_type, o.gpu, o.gpu_count) for o in parse(recording()).offers}
    assert {
        ("g2-standard-24", "L4", 2),
        ("g2-standard-32", "L4", 1),
        ("g2-standard-96", "L4", 8),
        ("a2-highgpu-4g", "A100-40GB", 4),
        ("a2-ultragpu-2g", "A100-80GB", 2),
        ("a3-highgpu-8g", "H100", 8),
        ("a3-megagpu-8g", "H100", 8),
        ("a3-ultragpu-8g", "H200", 8),
        ("a4-highgpu-8g", "B200", 8),
        ("g4-standard-48", "RTXPRO6000", 1),
    } <= found
    assert not any(name.startswith("g4-standard-6") for name, _, _ in found)


def test_prices_hold_for_a_region_and_say_since_when() -> None:
    parsed = parse(recording())
    assert {one.zone for one in parsed.offers} == {None}
    assert {one.priced_at for one in parsed.offers} == {datetime(2026, 11, 3, 8, tzinfo=UTC)}
    assert {one.source for one in parsed.offers} == {"gcp:skus"}


def test_regions_come_from_the_row_and_not_from_its_text() -> None:
    regions = {one.region for one in parse(recording()).offers if one.gpu == "L4"}
    assert regions == {"europe-west1", "europe-west4"}  # "EMEA" says north1 too: no L4 there


def test_every_region_is_kept_unless_some_are_named() -> None:
    everywhere = {one.region for one in parse(recording()).offers}
    assert everywhere == {
        "europe-west1",
        "europe-west4",
        "us-central1",
        "us-east1",
        "us-west1",
    }
    american = parse(recording(), "us-central1")
    assert {one.region for one in american.offers} == {"us-central1"}
    assert {region for region, _ in american.covered} == {"us-central1"}
    assert prices(american, ON_DEMAND)["us-central1", "a2-highgpu-1g"] == "3.673385 USD"


def test_a_price_for_the_whole_world_is_of_no_region() -> None:
    world = [row(L4, "0.5", "global"), *({**one, "serviceRegions": ["global"]} for one in G2)]
    assert parse(Fetched((page(*world),))).covered == frozenset()


def test_a_machine_without_one_of_its_prices_is_no_offer() -> None:
    l4 = row(L4, "0.5")
    for rows, lack in (
        (G2, "no price for its GPU"),
        ((l4, G2[1]), "no price for its vCPU"),
        ((l4, G2[0]), "no price for its memory"),
    ):
        parsed = listed(*rows)
        assert parsed.offers == ()
        assert reasons(parsed.skips, malformed=False)[lack] >= 8
    ultra = [row("Nvidia Tesla A100 80GB GPU running in X", "4"), row("A2 Instance Core", "0.03")]
    ultra.append(row("A2 Instance Ram in X", "0.004", unit="GiBy.h"))
    parsed = listed(*ultra)
    assert parsed.offers == ()
    assert reasons(parsed.skips, malformed=False)["no price for its local SSD"] == 4


def test_a_gpu_is_offered_where_it_is_and_not_where_it_is_priced() -> None:
    everywhere = [
        {**one, "serviceRegions": ["europe-west4", "europe-west8"]} for one in (row(L4, "0.5"), *G2)
    ]
    parsed = listed(*everywhere)
    assert {one.region for one in parsed.offers} == {"europe-west4"}
    assert reasons(parsed.skips, malformed=False)["its GPU is not known to be in the region"]


# --- the account's own lists ------------------------------------------------------------------


def test_the_account_says_which_machines_there_are() -> None:
    parsed = parse(recording(*LISTS))
    west4 = {one.instance_type for one in parsed.offers if one.region == "europe-west4"}
    assert west4 == {
        "g2-standard-4",
        "g2-standard-48",
        "a2-highgpu-1g",
        "a2-ultragpu-1g",
        "a3-highgpu-8g",
    }
    by_table = prices(parse(recording()), SPOT)
    assert prices(parsed, SPOT).items() <= by_table.items()


def test_a_machine_type_that_the_account_alone_knows_is_added_up_too() -> None:
    lists = json.loads(recorded("machine-types"))
    new = lists["items"]["zones/europe-west4-a"]["machineTypes"][0]
    new |= {"name": "g2-standard-5", "guestCpus": 5, "memoryMb": 20480}
    new["bundledLocalSsds"] = {"partitionCount": 2}
    machines = Page(MACHINE_TYPES, "", json.dumps(lists).encode())
    parsed = parse(recording(machines, LISTS[1]))
    # 5 * 0.026518 + 20 * 0.003107 + 0.588631 + 2 * 375 * 0.088 / 730
    assert prices(parsed, ON_DEMAND)["europe-west4", "g2-standard-5"] == "0.873772 USD"


# --- what is covered --------------------------------------------------------------------------

BOTH = {("europe-west1", SPOT), ("europe-west1", ON_DEMAND)}


def test_a_list_with_its_last_page_covers_its_regions() -> None:
    covered = parse(recording()).covered
    assert covered >= BOTH
    european = {region for region, _ in covered if region.startswith("europe-")}
    assert european == {"europe-north1", "europe-west1", "europe-west4"}


def test_a_list_that_was_cut_short_covers_nothing() -> None:
    first = parse(Fetched((Page(PRICES, "", recorded("skus-1")),)))
    assert first.offers
    assert first.covered == frozenset()


def test_an_empty_list_covers_nothing() -> None:
    for body in (b"{}", b'{"skus": [], "nextPageToken": ""}'):
        assert parse(Fetched((Page(PRICES, "", body),))).covered == frozenset()


def test_nothing_is_covered_by_half_a_list_of_machines() -> None:
    silent = {**json.loads(recorded("machine-types")), "unreachables": ["zones/europe-west4-c"]}
    partial = Page(MACHINE_TYPES, "", json.dumps(silent).encode())
    assert parse(recording(partial, LISTS[1])).covered == frozenset()
    assert parse(recording(*LISTS)).covered >= BOTH


def test_an_unchanged_offer_stays_the_same_object() -> None:
    provider = Gcp(ProviderSettings())
    first, again = (provider.parse(recording(), NOW).offers for _ in range(2))
    assert all(one is other for one, other in zip(first, again, strict=True))


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


# --- beside the repository --------------------------------------------------------------------


def test_the_check_value_of_a_recorded_page(shared_recordings: Path) -> None:
    body = (shared_recordings / "gcp" / "skus_list_a2_a100_2023-03_raw.json").read_bytes()
    parsed = parse(Fetched((Page(PRICES, "", body),)), "us-central1", "us-east1")
    on_demand = prices(parsed, ON_DEMAND)
    assert on_demand["us-central1", "a2-highgpu-1g"] == "3.673385 USD"
    assert on_demand["us-central1", "a2-megagpu-16g"] == "55.739504 USD"
    assert on_demand["us-east1", "a2-highgpu-8g"] == "29.38708 USD"
    assert parsed.covered == frozenset()  # the page names a next one
    assert not reasons(parsed.skips, malformed=True)


def test_other_recorded_pages_bring_nothing(shared_recordings: Path) -> None:
    for name in ("sc_0338_example_services_skus", "sc_1927_example_services_skus"):
        body = (shared_recordings / "gcp" / f"{name}_list_response.json").read_bytes()
        parsed = parse(Fetched((Page(PRICES, "", body),)))
        assert parsed.offers == ()
        assert [skip.reason for skip in parsed.skips] == [NOT_GPU.reason]


Known = dict[tuple[str, str], dict[Purchase, Decimal]]


def whole_machines(shared: Path) -> Known:
    """The last recorded price of every machine type and region."""
    table = shared.parent / "history" / "gcp_gpu_machine_price_history_2022-2026.csv"
    known: Known = defaultdict(dict)
    with table.open(encoding="utf-8", newline="") as lines:
        for one in csv.DictReader(lines):
            for purchase, column in ((ON_DEMAND, "ondemand"), (SPOT, "spot")):
                if one[f"{column}_usd_hour"]:
                    price = Decimal(one[f"{column}_usd_hour"])
                    known[one["machine_type"], one["region"]][purchase] = price
    return known


def parts_of_g2(known: Known, region: str, purchase: Purchase) -> list[dict[str, Any]]:
    """The parts that the two smallest machines imply; a GiB is set to a tenth of a vCPU's."""
    small, large = (known[f"g2-standard-{n}", region][purchase] for n in (4, 8))
    core = (large - small) / (4 + 16 * Decimal("0.1"))
    gpu = 2 * small - large
    spot = purchase is SPOT
    attached = " attached to Spot Preemptible VMs" if spot else ""
    before = "Spot Preemptible " if spot else ""
    usage = "Preemptible" if spot else "OnDemand"
    return [
        row(f"Nvidia L4 GPU{attached} running in X", f"{gpu:.9f}", region, usage=usage),
        row(f"{before}G2 Instance Core running in X", f"{core:.9f}", region, usage=usage),
        row(
            f"{before}G2 Instance Ram running in X",
            f"{core / 10:.9f}",
            region,
            usage=usage,
            unit="GiBy.h",
        ),
    ]


def test_machines_cost_what_another_source_says(shared_recordings: Path) -> None:
    """Prices of parts from two machine types give those of the other six, in five regions."""
    known = whole_machines(shared_recordings)
    regions = [f"europe-west{n}" for n in (1, 2, 3, 4, 6)]
    rows = [one for r in regions for p in (SPOT, ON_DEMAND) for one in parts_of_g2(known, r, p)]
    compared = 0
    for offer in listed(*rows).offers:
        expected = known[offer.instance_type, offer.region][offer.purchase]
        assert abs(offer.price.amount - expected) < Decimal("0.00001"), offer
        compared += 1
    assert compared == 8 * 2 * len(regions)
