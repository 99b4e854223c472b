"""`arbiter migrate`, and what status, launch and doctor say of gateway and machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import NO_PROVIDER, Machine

from arbiter.cli import working
from arbiter.clock import SystemClock
from arbiter.domain import Purchase
from arbiter.errors import GatewayError
from arbiter.executors.local import LocalExecutor
from arbiter.free_port import free_port
from arbiter.gateway import binary
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.store import journal
from arbiter.testing import priced

CALM = "[policy]\nmax_spares = 0\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(working, "PAUSE_S", 0.05)
    made = Machine(tmp_path)
    made.clock = SystemClock()  # type: ignore[assignment]
    made.settings(NO_PROVIDER + CALM)
    made.sells(
        "aws",
        [
            priced("eu-north-1", "0.30", zone="eun1-az1"),
            priced("eu-west-1", "0.40", zone="euw1-az1"),
            priced("eu-west-2", "0.10", zone="euw2-az1"),
            priced("eu-north-1", "0.90", purchase=Purchase.ON_DEMAND),
        ],
    )
    yield made
    executor = LocalExecutor(tmp_path / "replicas")
    for cluster in list(executor.standing()):
        executor.terminate(cluster)


def check(machine: Machine, name: str) -> tuple[str, str]:
    found = {one["name"]: one for one in machine.arbiter("doctor", "--json").json["checks"]}
    return found[name]["state"], found[name]["found"]


def test_a_move_by_order_ends_with_one_replica_elsewhere(machine: Machine) -> None:
    assert machine.arbiter("launch", "tiny", "--name", "chat").code == 0
    rehearsed = machine.arbiter("migrate", "chat", "--to", "aws/eu-west-1", "--dry-run")
    assert rehearsed.code == 2
    assert "by order, in place of" in rehearsed.out
    ordered = machine.arbiter("migrate", "chat", "--to", "aws/eu-west-1", "--no-wait", "--json")
    assert ordered.code == 0, ordered.err
    store = machine.store()
    with store.read() as connection:
        rows = journal.decisions(connection, "chat")
    store.close()
    (moved,) = (row for row in rows if any(one.replaces for one in row.plan.actions))
    assert machine.arbiter("explain", moved.id, "--replay").out.count("byte for byte") == 1
    assert machine.arbiter("down", "chat").code == 0


def test_a_move_that_the_rule_refuses_is_one_line(machine: Machine) -> None:
    assert machine.arbiter("launch", "tiny", "--name", "chat").code == 0
    refused = machine.arbiter("migrate", "chat", "--to", "aws/eu-west-2")
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert "cannot move to aws/eu-west-2" in refused.err
    assert "country_outside_eu" in refused.err
    assert machine.arbiter("migrate", "cat").err.startswith("error: no service is called 'cat'")
    assert machine.arbiter("down", "chat").code == 0


def test_the_gateways_address_is_told_and_outlives_the_command(machine: Machine) -> None:
    try:
        binary.find()
    except GatewayError as error:
        pytest.skip(str(error))
    port = free_port()
    text = machine.toml.read_text().replace("gateway.enabled = false", f"gateway.port = {port}")
    machine.toml.write_text(text)
    gateway = EnvoyGateway(machine.folder / "gateway", tuple, port=port)
    address = f"http://127.0.0.1:{port}/chat/v1"
    try:
        up = machine.arbiter("launch", "tiny", "--name", "chat")
        assert up.code == 0, up.err
        assert address in up.out
        assert f"endpoint: {address}" in machine.arbiter("status").out
        seen = machine.arbiter("status", "--json").json
        assert seen["services"][0]["endpoint"] == address
        assert seen["services"][0]["replicas"][0]["endpoint"] not in (None, address)
        assert seen["gateway"] == {"enabled": True, "running": True, "error": None}
        assert check(machine, "gateway")[0] == "ok"
        assert machine.arbiter("down", "chat").code == 0
        assert gateway.health().running, "the gateway outlives what it served"
        assert gateway.counts() == {}
    finally:
        gateway.stop()
    assert check(machine, "gateway")[0] == "warn"


def test_without_envoy_everything_works_and_says_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(binary.VARIABLE, "/nowhere/envoy")
    machine.toml.write_text(machine.toml.read_text().replace("gateway.enabled = false\n", ""))
    up = machine.arbiter("launch", "tiny", "--name", "chat")
    assert up.code == 0, up.err
    assert "clients ask the replicas themselves" in up.err
    assert "clients ask the replicas themselves" in machine.arbiter("status").out
    state, found = check(machine, "gateway")
    assert state == "warn"
    assert "/nowhere/envoy" in found
    assert machine.arbiter("down", "chat").code == 0


def test_machines_that_are_left_over_are_found_by_the_doctor(machine: Machine) -> None:
    assert check(machine, "machines") == ("ok", "none is left over")
    store = machine.store()
    with store.begin() as connection:
        journal.keep_orphans(connection, {"arb-0a1b2c3d-chat-9": 2})
    store.close()
    assert check(machine, "machines") == ("warn", "arb-0a1b2c3d-chat-9 belongs to no service")
