"""arbiter as its users run it, on the real SkyPilot and machines that one can log in to."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from urllib.error import HTTPError

import pytest
from commands import MODEL, QUICK, Environment, answer, chat, daemon, eventually, healthy, run
from simaws.market import ZONES
from simaws.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# The story needs three spot failures in a row; on-demand would be next by the default policy.
PATIENT = {"ARBITER_POLICY__FALLBACK_AFTER": "9", "ARBITER_POLICY__MAX_SPARES": "0"}


def test_the_market_is_seen_as_it_is(world: World, arbiter_environment: Environment) -> None:
    (row,) = answer(arbiter_environment, "poll", "aws")
    assert (row["provider"], row["state"], row["offers"]) == ("aws", "ok", 2 * (4 * 3 + 4))

    seen = answer(arbiter_environment, "offers", MODEL)
    best = seen["offers"][0]
    assert (best["region"], best["zone"], best["purchase"]) == ("eu-north-1", "eun1-az1", "spot")
    assert Decimal(best["price_usd_hour"]) == Decimal("0.311")
    assert {offer["region"] for offer in seen["offers"]} == set(ZONES) - {"us-east-1"}
    american = [each for each in seen["refused"] if each["region"] == "us-east-1"]
    assert {each["rule"] for each in american} == {"country_outside_eu"}

    world.market.set_spot("eu-west-1", "g6.xlarge", "0.1000")
    run(arbiter_environment, "poll", "aws")
    best = answer(arbiter_environment, "offers", MODEL)["offers"][0]
    assert (best["region"], best["price_usd_hour"]) == ("eu-west-1", "0.1")


def test_a_service_outlives_its_machine_and_leaves_none(
    world: World, arbiter_environment: Environment, tmp_path: Path
) -> None:
    environment = {**arbiter_environment, **PATIENT, **QUICK}

    # the cheapest spot zone that the rules allow, though another country's is cheaper
    run(environment, "launch", MODEL, "--name", "chat", "--tag", "team=search", seconds=600)
    (machine,) = world.instances()
    assert machine["Placement"]["AvailabilityZone"] == "eu-north-1a"  # the account's eun1-az1
    assert machine["InstanceLifecycle"] == "spot"
    assert {"Key": "tag-team", "Value": "search"} in machine["Tags"]
    first = healthy(environment)
    assert first is not None
    (seen,) = answer(environment, "status", "chat")["services"]
    stable = seen["endpoint"].removesuffix("/v1")
    assert stable != first["endpoint"]
    assert chat(stable)["machine"] == machine["InstanceId"]
    assert (first["region"], first["zone"]) == ("eu-north-1", "eun1-az1")
    said = chat(first["endpoint"])
    assert said["choices"][0]["message"]["content"] == "hello"
    assert said["machine"] == machine["InstanceId"]
    with pytest.raises(HTTPError, match="401"):
        chat(first["endpoint"], key="a guess")

    with daemon(environment, tmp_path / "daemon.log"):
        # the machine is taken, and its region has no other: the next cheapest region has
        world.set_full({"eu-north-1": ["g6.xlarge"]})
        world.reclaim(machine)
        second = eventually(
            lambda: (now := healthy(environment)) and now["cluster"] != first["cluster"] and now,
            400,
            f"another machine answers\n{(tmp_path / 'daemon.log').read_text()}",
        )
        assert second["region"] == "eu-central-1"
        (machine,) = world.instances()
        assert machine["Placement"]["AvailabilityZone"].startswith("eu-central-1")
        assert machine["InstanceLifecycle"] == "spot"
        assert chat(second["endpoint"])["machine"] == machine["InstanceId"]
        assert chat(stable)["machine"] == machine["InstanceId"], "the address has not changed"
        told = (tmp_path / "daemon.log").read_text()
        assert "was reclaimed" in told

        # the daemon holds the lease: the command only orders, and watches
        run(environment, "down", "chat")
        assert world.instances() == []
    assert world.instances() == []
    assert "end-to-end-key" not in (tmp_path / "daemon.log").read_text()
