"""`arbiter offers`: what is listed, in which order, and that nothing is left out in silence."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cli_world import NOW, Machine, market

from arbiter.domain import OfferKey, Purchase, Refusal
from arbiter.provider import Parsed, Signal
from arbiter.store import fleet
from arbiter.store.signals import write_signals
from arbiter.testing import priced

OFFER = {
    "provider", "region", "zone", "country", "instance_type", "gpu", "gpu_count", "purchase",
    "price_usd_hour", "usd_per_mtok", "tokens_per_s", "observed_at", "operator",
    "operator_country", "marks",
    "rate_basis", "rate_factor", "rate_busy_s", "rate_seen_at",
}  # fmt: skip
REFUSED = {
    "provider", "region", "zone", "country", "instance_type", "gpu", "gpu_count", "purchase",
    "rule", "reason",
}  # fmt: skip
SOLD = 15
"""Offers in the market of these tests."""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    market(machine)
    return machine


def regions(found: list[dict[str, Any]]) -> set[str]:
    return {one["region"] for one in found}


def test_json_is_the_contract(machine: Machine) -> None:
    ended = machine.arbiter("offers", "llama70b-awq", "--json")
    assert (ended.code, ended.err) == (0, "")
    answer = ended.json
    assert set(answer) == {"as_of", "policy", "offers", "refused", "degraded"}
    assert datetime.fromisoformat(answer["as_of"]) == NOW
    assert answer["policy"]["sovereignty"] == "eu"
    assert answer["offers"]
    for one in answer["offers"]:
        assert set(one) == OFFER
        assert isinstance(one["price_usd_hour"], str)
        assert Decimal(one["price_usd_hour"]) > 0
        assert Decimal(one["usd_per_mtok"]) > 0
        assert datetime.fromisoformat(one["observed_at"]) == NOW - timedelta(seconds=60)
    assert all(set(one) == REFUSED for one in answer["refused"])
    assert {"provider": "azure", "reason": "norwayeast: HTTP 503 after 4 tries"} in answer[
        "degraded"
    ]


@pytest.mark.parametrize("model", ["llama70b-awq", "llama8b", None])
@pytest.mark.parametrize("more", [[], ["--refused"], ["--limit", "1"]])
def test_every_offer_is_either_listed_or_refused(
    machine: Machine, model: str | None, more: list[str]
) -> None:
    answer = machine.arbiter("offers", *([model] if model else []), "--json", *more).json
    assert len(answer["offers"]) + len(answer["refused"]) == SOLD


def test_the_cheapest_per_token_comes_first(machine: Machine) -> None:
    offers = machine.arbiter("offers", "llama70b-awq", "--json").json["offers"]
    costs = [Decimal(one["usd_per_mtok"]) for one in offers]
    assert costs == sorted(costs)
    assert len(costs) > 2


def test_without_a_model_the_cheapest_per_gpu_comes_first_and_nothing_is_sized(
    machine: Machine,
) -> None:
    answer = machine.arbiter("offers", "--json").json
    per_gpu = [Decimal(one["price_usd_hour"]) / one["gpu_count"] for one in answer["offers"]]
    assert per_gpu == sorted(per_gpu)
    assert all(one["usd_per_mtok"] is one["tokens_per_s"] is None for one in answer["offers"])
    assert "does_not_fit" not in {one["rule"] for one in answer["refused"]}
    assert "K80" in {one["gpu"] for one in answer["offers"]}


def test_a_name_that_sounds_european_is_refused_by_its_country(machine: Machine) -> None:
    answer = machine.arbiter("offers", "llama70b-awq", "--json").json
    outside = {"eu-west-2": "GB", "us-east-1": "US", "switzerlandnorth": "CH"}
    assert not regions(answer["offers"]) & set(outside)
    for region, country in outside.items():
        (one,) = [one for one in answer["refused"] if one["region"] == region]
        assert one["rule"] == "country_outside_eu"
        assert f"in {country}, outside the EU" in one["reason"]


def test_a_looser_level_lets_them_in(machine: Machine) -> None:
    answer = machine.arbiter("offers", "llama70b-awq", "--sovereignty", "any", "--json").json
    assert {"eu-west-2", "us-east-1", "switzerlandnorth"} <= regions(answer["offers"])
    assert answer["policy"]["sovereignty"] == "any"


def test_a_stricter_level_asks_for_the_operator(machine: Machine) -> None:
    answer = machine.arbiter(
        "offers", "llama70b-awq", "--sovereignty", "eu-operator", "--json"
    ).json
    assert "operator_under_us_parent" in {one["rule"] for one in answer["refused"]}
    assert {one["provider"] for one in answer["offers"]} == {"scaleway"}


@pytest.mark.parametrize("gpu", ["H100-NVL", "h100-nvl", "NVIDIA H100 NVL"])
def test_gpu_narrows_both_lists(machine: Machine, gpu: str) -> None:
    answer = machine.arbiter("offers", "--gpu", gpu, "--json").json
    both = answer["offers"] + answer["refused"]
    assert {one["gpu"] for one in both} == {"H100-NVL"}
    assert len(both) == 5


@pytest.mark.parametrize(("flag", "purchase"), [("--spot", "spot"), ("--on-demand", "on_demand")])
def test_a_purchase_narrows_both_lists(machine: Machine, flag: str, purchase: str) -> None:
    answer = machine.arbiter("offers", flag, "--json").json
    both = answer["offers"] + answer["refused"]
    assert {one["purchase"] for one in both} == {purchase}
    # Though on-demand is not shown, its price still unmasks a spot price without a discount.
    if flag == "--spot":
        assert ["no_discount"] in [one["marks"] for one in answer["offers"]]


def test_text_counts_what_json_lists(machine: Machine) -> None:
    answer = machine.arbiter("offers", "llama70b-awq", "--json").json
    ended = machine.arbiter("offers", "llama70b-awq")
    assert f"{len(answer['offers'])} eligible for llama70b-awq at sovereignty eu" in ended.out
    assert f"{len(answer['refused'])} refused: " in ended.out
    assert "degraded: lambda: no API key is set" in ended.err


@pytest.mark.parametrize("model", ["llama70b-awq", "llama8b", "gpt-oss-120b"])
@pytest.mark.parametrize("level", ["any", "eu", "eu-certified"])
def test_counting_the_refused_and_listing_them_agree(
    machine: Machine, model: str, level: str
) -> None:
    counted = machine.arbiter("offers", model, "--sovereignty", level)
    listed = machine.arbiter("offers", model, "--sovereignty", level, "--refused")
    footers = [ended.out.splitlines()[-2:] for ended in (counted, listed)]
    assert footers[0] == footers[1]
    assert " refused: " in footers[0][1]


def test_limit_is_told(machine: Machine) -> None:
    ended = machine.arbiter("offers", "--limit", "1", "--refused", "--sovereignty", "eu")
    assert "the first 1 shown" in ended.out
    assert "and 2 more: --limit 0 shows all" in ended.out


def test_refused_capacity_is_remembered(machine: Machine) -> None:
    key = OfferKey("azure", "standard", "swedencentral", None, "Standard_NC40ads_H100_v5",
                   Purchase.SPOT)  # fmt: skip
    at = NOW - timedelta(seconds=30)
    store = machine.store()
    with store.begin() as connection:
        lost = Refusal(key, at, NOW + timedelta(seconds=300), 1, "no capacity")
        fleet.add_refusal(connection, "chat", lost)
    store.close()
    refused = machine.arbiter("offers", "llama70b-awq", "--json").json["refused"]
    (one,) = [one for one in refused if one["rule"] == "capacity_refused"]
    assert (one["region"], one["reason"]) == (
        "swedencentral",
        "had no capacity at 11:59 UTC, tried again after 12:05",
    )
    machine.clock.advance(301)
    refused = machine.arbiter("offers", "llama70b-awq", "--json").json["refused"]
    assert "capacity_refused" not in {one["rule"] for one in refused}


def test_what_cannot_be_launched_stays_visible(machine: Machine) -> None:
    machine.settings("")
    machine.toml.write_text(machine.toml.read_text().replace('"local"', '"skypilot"'))
    refused = machine.arbiter("offers", "llama70b-awq", "--json").json["refused"]
    (one,) = [one for one in refused if one["provider"] == "scaleway"]
    assert one["rule"] == "not_launchable"
    assert "SkyPilot" in one["reason"]


def test_old_prices_are_refused_and_the_next_step_is_named(machine: Machine) -> None:
    machine.clock.advance(7200)
    ended = machine.arbiter("offers", "llama70b-awq")
    assert "0 eligible" in ended.out
    assert "run: arbiter poll" in ended.err


def test_the_sizing_is_explained(machine: Machine) -> None:
    ended = machine.arbiter("offers", "llama70b-awq", "--explain", "--limit", "1")
    for figure in ("weights", "KV cache", "batch", "reading", "estimate", "USD/Mtok", "[computed]"):
        assert figure in ended.out
    assert "nine of ten within 69 %" in ended.out


def test_the_sizing_is_explained_to_programs_too(machine: Machine) -> None:
    answer = machine.arbiter("offers", "llama70b-awq", "--explain", "--json").json
    kinds = {(one["gpu"], one["gpu_count"]) for one in answer["offers"]}
    assert {(one["gpu"], one["gpu_count"]) for one in answer["sizing"]} == kinds
    for one in answer["sizing"]:
        rates = {each["tokens_per_s"] for each in answer["offers"] if each["gpu"] == one["gpu"]}
        assert one["tokens_per_s"] in rates
        assert one["estimate_error_median_percent"] == 48
        assert {"weights", "KV cache", "step", "estimate"} <= {f["name"] for f in one["figures"]}
        assert all(each["source"] for each in one["figures"])
    assert "sizing" not in machine.arbiter("offers", "llama70b-awq", "--json").json


def test_measured_rates_are_ranked_by_and_shown(machine: Machine) -> None:
    from arbiter.calibration import Rate, kind
    from arbiter.store.beliefs import save_rates
    from arbiter.store.engine import Store

    before = machine.arbiter("offers", "llama70b-awq", "--json").json["offers"]
    store = Store(f"sqlite:///{machine.folder / 'arbiter.db'}")
    slow = {
        kind("llama70b-awq", "awq", before[0]["gpu"], 1): Rate(3600.0, 36_000.0, NOW.timestamp())
    }
    with store.begin() as connection:
        save_rates(connection, slow, NOW)
    store.close()
    after = machine.arbiter("offers", "llama70b-awq", "--json").json["offers"]
    found = next(one for one in after if one["gpu"] == before[0]["gpu"])
    assert after[0]["gpu"] != before[0]["gpu"]
    assert (found["rate_basis"], found["rate_busy_s"]) == ("measured", 36_000.0)
    assert float(found["tokens_per_s"]) < 0.2 * float(before[0]["tokens_per_s"])
    text = machine.arbiter("offers", "llama70b-awq", "--explain", "--gpu", found["gpu"]).out
    assert "1 measured by what servers counted" in text
    assert "600.0 busy minutes" in text


def test_what_is_simulated_says_so(machine: Machine) -> None:
    machine.settings("simulated = true\n")
    assert machine.arbiter("offers").out.startswith("SIMULATED")
    assert machine.arbiter("offers", "--json").json["simulated"] is True


def test_a_gpu_that_only_looks_like_one_is_told_with_the_nearest(machine: Machine) -> None:
    ended = machine.arbiter("offers", "--gpu", "H1OO")
    assert ended.code == 1
    assert ended.err.startswith("error: no GPU is called 'H1OO'; did you mean H100")
    ended = machine.arbiter("offers", "--gpu", "a100")
    assert ended.err == ("error: no GPU is called 'a100'; did you mean A100-40GB, A100-80GB\n")


def test_a_euro_price_is_refused_rather_than_compared(machine: Machine) -> None:
    from dataclasses import replace

    from arbiter.money import Price

    offer = replace(priced("GRA", instance_type="l4-90", purchase=Purchase.ON_DEMAND),
                    price=Price.of("0.75", "EUR"))  # fmt: skip
    machine.sells("ovh", [offer])
    answer = machine.arbiter("offers", "--sovereignty", "any", "--json").json
    (one,) = [one for one in answer["refused"] if one["provider"] == "ovh"]
    assert one["rule"] == "currency_unconverted"
    assert "arbiter prices rates --fetch" in one["reason"]


def test_a_euro_price_is_compared_once_its_rate_is_stored(machine: Machine) -> None:
    from dataclasses import replace

    from arbiter.money import Price

    offer = replace(priced("it-fr2", instance_type="GPU1", purchase=Purchase.ON_DEMAND),
                    price=Price.of("0.20", "EUR"))  # fmt: skip
    machine.sells("seeweb", [offer])
    rates = machine.folder / "rates.csv"
    rates.write_text(f"Date,USD,\n{NOW.date()},1.5,\n")
    assert machine.arbiter("prices", "rates", "--load", str(rates)).code == 0
    offers = machine.arbiter("offers", "--json").json["offers"]
    (one,) = [one for one in offers if one["provider"] == "seeweb"]
    assert one["price_usd_hour"] == "0.3"
    text = machine.arbiter("offers", "llama8b", "--explain", "--gpu", one["gpu"]).out
    assert f"0.2 EUR by the ECB rate of {NOW.date()}" in text


def test_signals_are_shown_only_when_asked_for(machine: Machine) -> None:
    said = Signal("placement_score", "1..10", "eu-north-1", None, "g6.12xlarge", Purchase.SPOT,
                  Decimal(3), Decimal(3))  # fmt: skip
    band = Signal("interruption_band", "share in 30 days", "eu-north-1", "eun1-az2", "g6.12xlarge",
                  Purchase.SPOT, Decimal("0.05"), Decimal("0.1"), "5-10%")  # fmt: skip
    store = machine.store()
    with store.begin() as connection:
        parsed = Parsed((), (), frozenset(), (said, band), frozenset({"placement_score"}))
        write_signals(connection, "aws", parsed, NOW - timedelta(minutes=3))
    store.close()
    assert "signals" not in machine.arbiter("offers", "--json").json["offers"][0]
    answer = machine.arbiter("offers", "--json", "--signals").json
    by_type = {one["instance_type"]: one["signals"] for one in answer["offers"]}
    assert [one["kind"] for one in by_type["g6.12xlarge"]] == [
        "interruption_band",
        "placement_score",
    ]
    assert by_type["g6.xlarge"] == []
    text = machine.arbiter("offers", "--signals").out
    assert "5-10% 0.05..0.1" in text
    assert "3 min" in text


def test_offers_without_signals_say_so(machine: Machine) -> None:
    assert "say nothing of the capacity" in machine.arbiter("offers", "--signals").out
