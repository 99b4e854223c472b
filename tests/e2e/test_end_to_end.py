"""arbiter as its users run it, on the real SkyPilot and machines that one can log in to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from simaws.market import ZONES
from simaws.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

Environment = Mapping[str, str]

ARBITER = str(Path(sys.executable).with_name("arbiter"))
MODEL = "e2e-server"
# The story needs three spot failures in a row; on-demand would be next by the default policy.
PATIENT = {"ARBITER_POLICY__FALLBACK_AFTER": "9", "ARBITER_POLICY__MAX_SPARES": "0"}
QUICK = {"ARBITER_DAEMON__PORT": "0", "ARBITER_DAEMON__TICK_S": "2"}


def run(environment: Environment, *arguments: str, code: int = 0, seconds: float = 300) -> str:
    """What a command prints to stdout; it must end with the given exit code."""
    done = subprocess.run(
        [ARBITER, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def answer(environment: Environment, *arguments: str, **options: Any) -> Any:
    """A command's answer in JSON."""
    return json.loads(run(environment, *arguments, "--json", **options))


def healthy(environment: Environment, service: str = "chat") -> dict[str, Any] | None:
    """The replica of a service that answers, if one does."""
    (seen,) = answer(environment, "status", service)["services"]
    replicas: list[dict[str, Any]] = seen["replicas"]
    return next((one for one in replicas if one["state"] == "healthy"), None)


def chat(endpoint: str, key: str = "end-to-end-key") -> dict[str, Any]:
    """One chat completion."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "olleh"}]}
    request = Request(
        f"{endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=10) as response:
        said: dict[str, Any] = json.load(response)
    return said


def eventually(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first answer that counts as true."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(1)
    return found


@contextmanager
def daemon(environment: Environment, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that ends in good order."""
    with log.open("wb") as stderr:
        process = subprocess.Popen([ARBITER, "daemon"], env=environment, stderr=stderr)
    try:
        yield process
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=90) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


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
    run(environment, "launch", MODEL, "--name", "chat", "--tag", "team=search")
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
