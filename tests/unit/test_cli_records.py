"""`arbiter plan`, `status`, `explain` and `doctor`: exit codes and what they promise."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from cli_fleet import decide
from cli_world import NOW, Machine, market

from arbiter import registry
from arbiter.calibration import Rate, kind
from arbiter.money import Price
from arbiter.spot.beliefs import Beliefs
from arbiter.store.turns import Turn, write_turn
from arbiter.testing import FakeProvider, priced


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    market(machine)
    return machine


def test_a_plan_with_changes_exits_2_and_changes_nothing(machine: Machine) -> None:
    ended = machine.arbiter("plan", "llama70b-awq")
    assert ended.code == 2
    assert "launch arb-" in ended.out
    assert machine.arbiter("status", "--json").json["services"] == []
    again = machine.arbiter("plan", "llama70b-awq")
    assert again.out == ended.out


def test_a_plan_that_finds_nothing_eligible_exits_1_and_says_by_which_rules(
    machine: Machine,
) -> None:
    ended = machine.arbiter("plan", "llama70b-awq", "--sovereignty", "eu-certified")
    assert ended.code == 1
    assert "found no eligible offer" in ended.out
    assert "operator_under_us_parent" in ended.out


def test_a_plan_tells_which_prices_it_lacks(machine: Machine) -> None:
    ended = machine.arbiter("plan", "llama70b-awq")
    assert "degraded: lambda: no API key is set" in ended.err


def test_a_plan_of_a_service_counts_what_runs(machine: Machine) -> None:
    decide(machine)
    ended = machine.arbiter("plan", "chat", "--json")
    assert (ended.code, ended.json["actions"]) == (0, [])
    ended = machine.arbiter("plan", "chat", "--replicas", "3", "--json")
    assert ended.code == 2
    assert [one["kind"] for one in ended.json["actions"]] == ["launch"]


def test_a_plan_takes_a_level_that_is_stricter_than_what_runs(machine: Machine) -> None:
    decide(machine)
    ended = machine.arbiter("plan", "chat", "--sovereignty", "eu-certified", "--json")
    assert ended.code == 2
    assert [one["kind"] for one in ended.json["actions"]] == ["terminate", "terminate"]


@pytest.mark.parametrize("arguments", [["plan", "nothing"], ["explain", "nothing"]])
def test_an_unknown_name_is_an_error(machine: Machine, arguments: list[str]) -> None:
    ended = machine.arbiter(*arguments)
    assert ended.code == 1
    assert ended.err.startswith("error: ")


def test_status_adds_up_what_may_cost_money(machine: Machine) -> None:
    decide(machine)
    answer = machine.arbiter("status", "--json").json
    (service,) = answer["services"]
    assert (service["state"], service["healthy"], service["target"]) == ("degraded", 1, 2)
    prices = [Decimal(one["price_usd_hour"]) for one in service["replicas"]]
    assert Decimal(answer["total_usd_hour"]) == sum(prices) > 0
    assert {one["provider"]: one["state"] for one in answer["providers"]}["lambda"] == "failed"


def test_a_decision_is_found_by_its_service_and_by_the_beginning_of_its_id(
    machine: Machine,
) -> None:
    decision = decide(machine)
    by_service = machine.arbiter("explain", "chat", "--json").json
    by_id = machine.arbiter("explain", decision[:5], "--json").json
    assert by_service == by_id
    assert by_id["id"] == decision
    assert by_id["refused_by_rule"]["country_outside_eu"] == 3
    assert [one["state"] for one in by_id["actions"]] == ["intent", "intent"]
    assert by_id["candidates"][0]["usd_per_mtok"]


def test_a_replay_gives_the_same_plan(machine: Machine) -> None:
    decide(machine)
    ended = machine.arbiter("explain", "chat", "--replay", "--json")
    assert (ended.code, ended.json["replay_equal"]) == (0, True)


def test_a_replay_notices_a_record_that_was_tampered_with(machine: Machine) -> None:
    decide(machine)
    connection = sqlite3.connect(machine.folder / "arbiter.db")
    connection.execute("UPDATE decision SET plan = replace(plan, 'the cheapest', 'the nicest')")
    connection.commit()
    connection.close()
    ended = machine.arbiter("explain", "chat", "--replay")
    assert ended.code == 1
    assert "ANOTHER plan" in ended.out


def test_every_decision_of_a_service_is_replayed(machine: Machine) -> None:
    decide(machine)
    ended = machine.arbiter("explain", "chat", "--replay", "--all")
    assert (ended.code, ended.out) == (0, "1 of 1 decisions are the same, byte for byte\n")
    connection = sqlite3.connect(machine.folder / "arbiter.db")
    connection.execute("UPDATE decision SET plan = replace(plan, 'the cheapest', 'the nicest')")
    connection.commit()
    connection.close()
    ended = machine.arbiter("explain", "chat", "--replay", "--all")
    assert ended.code == 1
    assert ended.out.startswith("0 of 1 decisions are the same")
    assert "ANOTHER plan" in ended.out
    answer = machine.arbiter("explain", "chat", "--replay", "--all", "--json").json
    assert (answer["equal"], len(answer["other"]), answer["not_kept"]) == (0, 1, 0)
    assert machine.arbiter("explain", "nothing", "--replay", "--all").code == 1
    assert "--all needs --replay" in machine.arbiter("explain", "chat", "--all").err


# --- doctor ---------------------------------------------------------------------------------


def test_a_doctor_of_a_fresh_machine_names_the_first_command(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    ended = machine.arbiter("doctor")
    assert ended.code == 0
    assert "does not exist yet" in ended.out
    assert "next: arbiter poll" in ended.out
    assert not (tmp_path / "arbiter.db").exists()


def test_a_doctor_shows_each_provider_by_its_last_poll(machine: Machine) -> None:
    checks = {one["name"]: one for one in machine.arbiter("doctor", "--json").json["checks"]}
    assert checks["provider aws"]["state"] == "ok"
    assert "7 offers" in checks["provider aws"]["found"]
    azure = checks["provider azure"]
    assert (azure["state"], azure["next"]) == ("warn", "arbiter poll azure")
    assert "norwayeast: HTTP 503" in azure["found"]


def test_status_counts_the_prices_that_stand_also_after_a_poll_that_failed(
    machine: Machine,
) -> None:
    def offers() -> tuple[str, int]:
        lines = machine.arbiter("status").out.splitlines()
        heading = next(line for line in lines if line.startswith("PROVIDER"))
        line = next(line for line in lines if line.startswith("aws"))
        providers = machine.arbiter("status", "--json").json["providers"]
        end = heading.index("OFFERS") + len("OFFERS")
        return line[:end].split()[-1], next(
            one["standing"] for one in providers if one["provider"] == "aws"
        )

    assert offers() == ("7", 7)
    machine.sells("aws", state="failed", reasons=["no answer"], age_s=0)
    assert offers() == ("7", 7)


def test_what_is_to_be_known_of_a_source_is_told_and_nothing_is_wrong(machine: Machine) -> None:
    machine.sells("nebius", [priced("eu-north1")], reasons=["of an age that is not told"])
    checks = {one["name"]: one for one in machine.arbiter("doctor", "--json").json["checks"]}
    nebius = checks["provider nebius"]
    assert (nebius["state"], nebius["next"]) == ("ok", None)
    assert nebius["found"] == "1 offers 60 s ago (of an age that is not told)"
    line = next(one for one in machine.arbiter("status").out.splitlines() if "nebius" in one)
    assert line.endswith("of an age that is not told")
    assert "nebius" not in machine.arbiter("offers").err


def test_a_doctor_says_whether_prices_of_two_currencies_can_be_compared(machine: Machine) -> None:
    def rates() -> tuple[str, str, str | None]:
        checks = {one["name"]: one for one in machine.arbiter("doctor", "--json").json["checks"]}
        found = checks["reference rates"]
        return found["state"], found["found"], found["next"]

    assert rates() == ("ok", "none stored, and all prices are in USD", None)
    euros = replace(priced("fr-par-2", instance_type="e"), price=Price.of("2", "EUR"))
    machine.sells("scaleway", [euros])
    fetch = "arbiter prices rates --fetch"
    said = "none of USD within 7 days, while prices in EUR stand: they are not compared"
    assert rates() == ("warn", said, fetch)
    for days, state in ((8, "warn"), (7, "ok")):
        day = (NOW - timedelta(days=days)).date()
        file = machine.folder / "rates.csv"
        file.write_text(f"Date,USD,\n{day},1.1,\n")
        assert machine.arbiter("prices", "rates", "--load", str(file)).code == 0
        assert rates()[0] == state
    assert rates()[1] == f"the newest is of {day}"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ("nonsense = 1\n", "nonsense"),
        ("[daemon]\nport = 99999\n", "port"),
    ],
)
def test_a_doctor_of_broken_settings_says_where_and_exits_1(
    machine: Machine, settings: str, found: str
) -> None:
    machine.settings(settings)
    ended = machine.arbiter("doctor", "--json")
    assert ended.code == 1
    assert ended.json["usable"] is False
    (wrong,) = [one for one in ended.json["checks"] if one["state"] == "fail"]
    assert found in wrong["found"]


def test_a_doctor_of_a_broken_profile_warns(machine: Machine) -> None:
    (machine.folder / "mine.yaml").write_text("name: mine\n")
    machine.settings(f'profiles_dir = "{machine.folder}"\n')
    ended = machine.arbiter("doctor", "--json")
    assert ended.code == 0
    (wrong,) = [one for one in ended.json["checks"] if one["name"] == "profiles"]
    assert wrong["state"] == "warn"
    assert "mine.yaml" in wrong["found"]


def test_a_doctor_never_shows_the_databases_password(machine: Machine) -> None:
    machine.url = "postgresql://eve:s3cret@127.0.0.1:9/arbiter"
    machine.settings("")
    ended = machine.arbiter("doctor")
    assert ended.code == 1
    assert "s3cret" not in ended.out + ended.err


def test_a_doctor_of_skypilot_says_that_its_server_is_silent(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "http://127.0.0.1:9")
    machine.toml.write_text(machine.toml.read_text().replace('"local"', '"skypilot"'))
    checks = {one["name"]: one for one in machine.arbiter("doctor", "--json").json["checks"]}
    found = checks.get("skypilot server") or checks["skypilot"]
    assert found["state"] == "warn"
    assert found["next"] in ("sky api start", "pip install 'arbiter[skypilot]'")


# --- polling and what is held back --------------------------------------------------------------


def test_status_shows_when_a_provider_is_polled_next(machine: Machine) -> None:
    store = machine.store()
    with store.begin() as connection:
        write_turn(connection, Turn("aws", next_at=NOW + timedelta(seconds=90)))
        write_turn(connection, Turn("azure", polling_since=NOW, note="page 3"))
        write_turn(connection, Turn("lambda", "open", 7, next_at=NOW + timedelta(minutes=40)))
    store.close()
    found = {one["provider"]: one for one in machine.arbiter("status", "--json").json["providers"]}
    assert (found["lambda"]["circuit"], found["lambda"]["failures"]) == ("open", 7)
    assert found["azure"]["progress"] == "page 3"
    assert (found["runpod"]["circuit"], found["runpod"]["next_poll_at"]) == (None, None)
    text = machine.arbiter("status").out
    for shown in ("in 90 s", "now (page 3)", "in 40 min"):
        assert shown in text


def test_what_is_held_back_is_shown_by_poll_status_and_doctor(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = FakeProvider("calm", [priced(usd="2.00")])
    monkeypatch.setattr(registry, "load", lambda _name, _settings: provider)
    assert machine.arbiter("poll", "calm").code == 0
    provider.sells([priced(usd="0.02")])
    machine.clock.advance(300)
    row = machine.arbiter("poll", "calm", "--json").json[0]
    assert row["state"] == "degraded"
    assert "g6.xlarge spot in eu-north-1 at 0.02 USD, was 2 USD" in row["reasons"][0]

    found = {one["provider"]: one for one in machine.arbiter("status", "--json").json["providers"]}
    assert found["calm"]["held_back"] == 1
    assert found["aws"]["held_back"] == 0
    checks = {one["name"]: one for one in machine.arbiter("doctor", "--json").json["checks"]}
    assert checks["held back"]["state"] == "warn"
    assert checks["held back"]["found"].startswith(
        "calm: 1 price in 1 place, far from its own past"
    )


def test_a_doctor_finds_nothing_held_back(machine: Machine) -> None:
    checks = {one["name"]: one for one in machine.arbiter("doctor", "--json").json["checks"]}
    assert (checks["held back"]["state"], checks["held back"]["found"]) == (
        "ok",
        "no price is doubted",
    )


def test_a_decision_says_what_was_measured_and_asked_for(machine: Machine) -> None:
    seen = (NOW - timedelta(hours=1)).timestamp()
    measured = {kind("llama70b-awq", "awq", "H100", 1): Rate(900.0, 1800.0, seen)}
    decision = decide(machine, Beliefs(rates=measured), demand=120.0)
    ended = machine.arbiter("explain", decision, "--replay")
    assert ended.code == 0
    assert "byte for byte" in ended.out
    assert "measured on H100 x1 as awq: 0.50 of the estimate in 29.9 busy minutes" in ended.out
    assert "ranked at 60.0 output tokens/s" in ended.out
    answer = machine.arbiter("explain", decision, "--json").json
    assert answer["demand_tokens_per_s"] == "60.0"
    (rate,) = answer["rates"]
    assert (rate["gpu"], rate["measured"], rate["factor"]) == ("H100", 0.5, 0.63)
    found = {one["gpu"]: one for one in answer["candidates"]}
    assert found["H100"]["rate_basis"] == "measured"
    assert found["L4"]["rate_basis"] == "corrected"
    hourly = {gpu: Decimal(one["price_usd_hour"]) for gpu, one in found.items()}
    cheapest = min(answer["candidates"], key=lambda one: Decimal(one["price_usd_hour"]))
    assert answer["candidates"][0] == cheapest, hourly  # all make more than is asked for
