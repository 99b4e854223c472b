"""GCP: what the rows of the price list say, and how machines are added up from them."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gcp_lists import (
    G2,
    L4,
    LISTS,
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
from stand_in_gcp import recorded

from arbiter.domain import Purchase
from arbiter.provider import Fetched, Page, Provider, ProviderSettings
from arbiter.testing import ProviderContract
from arbiter_providers.gcp import MACHINE_TYPES, PRICES, Gcp
from arbiter_providers.gcp_skus import NOT_GPU


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Gcp(settings)

    def recording(self) -> Fetched:
        return recording()


class TestContractWithAnAccount(TestContract):
    def recording(self) -> Fetched:
        return recording(*LISTS)


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
