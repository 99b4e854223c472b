"""`arbiter scale`, and the same options of `arbiter launch`, with replicas on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import NO_PROVIDER, Machine

from arbiter.cli import working
from arbiter.clock import SystemClock
from arbiter.domain import Purchase, Service
from arbiter.executors.local import LocalExecutor
from arbiter.store import fleet, journal
from arbiter.testing import priced

QUIET = "[policy]\nmax_spares = 0\n" + NO_PROVIDER
NEVER = "mon-sun 00:00-24:00 UTC = 2"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Prices of this minute, no provider to ask, and no replica left at the end."""
    monkeypatch.setattr(working, "PAUSE_S", 0.05)
    made = Machine(tmp_path)
    made.clock = SystemClock()  # type: ignore[assignment]
    made.settings(QUIET)
    made.sells(
        "aws",
        [
            priced("eu-north-1", "0.30", zone="eun1-az1"),
            priced("eu-north-1", "0.90", purchase=Purchase.ON_DEMAND),
        ],
    )
    yield made
    executor = LocalExecutor(tmp_path / "replicas")
    for cluster in list(executor.standing()):
        executor.terminate(cluster)


def ordered(machine: Machine, name: str = "tiny") -> Service:
    store = machine.store()
    with store.begin() as connection:
        found = fleet.get_service(connection, name)
    store.close()
    return found


def test_the_number_is_ordered_and_brought_about(machine: Machine) -> None:
    assert machine.arbiter("launch", "tiny").code == 0
    more = machine.arbiter("scale", "tiny", "--replicas", "2", "--json")
    assert more.code == 0, more.err
    assert [one["state"] for one in more.json["replicas"]] == ["healthy", "healthy"]
    assert "tiny was ordered to be 2 replicas" in more.err
    again = machine.arbiter("scale", "tiny", "--replicas", "2")
    assert "was ordered" not in again.err, "the same order is none"


def test_what_is_not_named_stays_and_replicas_end_all_of_it(machine: Machine) -> None:
    assert machine.arbiter("launch", "tiny", "--max", "4", "--no-wait").code == 0
    machine.arbiter("scale", "tiny", "--schedule", NEVER, "--no-wait")
    machine.arbiter("scale", "tiny", "--requests-per-replica", "9", "--no-wait")
    service = ordered(machine)
    assert service.replicas == 2
    assert service.scaling is not None
    assert (service.scaling.min, service.scaling.max) == (1, 4)
    assert service.scaling.requests_per_replica == 9
    shown = machine.arbiter("status", "--json").json["services"][0]
    assert shown["scaling"] == {
        "min": 1,
        "max": 4,
        "schedule": ["daily 00:00-24:00 UTC = 2"],
        "requests_per_replica": 9,
        "idle_s": 900.0,
        "hold_s": 0.0,
    }
    machine.arbiter("scale", "tiny", "--schedule", "none", "--no-wait")
    assert ordered(machine).scaling.schedule == ()  # type: ignore[union-attr]
    machine.arbiter("scale", "tiny", "--replicas", "1", "--no-wait")
    assert ordered(machine).scaling is None


def test_a_launch_outside_its_hours_begins_with_what_the_hours_say(machine: Machine) -> None:
    window = "mon-sun 00:00-24:00 UTC = 0"
    started = machine.arbiter("launch", "tiny", "--min", "0", "--schedule", window)
    assert started.code == 0, started.err
    assert ordered(machine).replicas == 0
    assert "no replica runs" in started.out
    assert machine.arbiter("status", "--json").json["services"][0]["state"] == "zero"


def test_every_order_is_an_event(machine: Machine) -> None:
    machine.arbiter("launch", "tiny", "--no-wait")
    machine.arbiter("scale", "tiny", "--min", "1", "--max", "3", "--no-wait")
    store = machine.store()
    with store.begin() as connection:
        told = [one.sentence for one in journal.events(connection) if "ordered" in one.kind]
    store.close()
    assert told == ["tiny was ordered to be 1 to 3 replicas by load"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say either --replicas N, or what the number follows"),
        (["--replicas", "2", "--max", "3"], "say either --replicas N"),
        (["--replicas", "0"], "--replicas"),
        (["--min", "3", "--max", "2"], "--max 2 is below --min 3; raise --max"),
        (["--min", "0"], "with --min 0 alone the service would never run"),
        (["--min", "0", "--max", "2"], "woken by the gateway, which is switched off"),
        (["--hold", "60s"], "requests wait at the gateway, which is switched off"),
        (["--requests-per-replica", "4"], "means nothing without an upper bound"),
        (["--max", "2", "--idle", "soon"], "'soon' is no span"),
        (["--schedule", "weekdays = 3"], "'weekdays = 3' is no schedule; write it like: mon-fri"),
        (["--schedule", "mon 08:00-10:00 Europe/Atlantis = 3"], "'Europe/Atlantis'"),
        (["--max", "2", "--schedule", "mon 08:00-10:00 = 3"], "is above --max 2"),
    ],
)
def test_a_wrong_word_is_one_line_and_orders_nothing(
    machine: Machine, arguments: list[str], said: str
) -> None:
    store = machine.store()
    with store.begin() as connection:
        fleet.add_service(connection, Service("tiny", "tiny"), machine.clock.now())
    store.close()
    before = ordered(machine)
    for command in (["scale", "tiny"], ["launch", "tiny"]):
        if command[0] == "launch" and (not arguments or arguments[0] == "--replicas"):
            continue
        wrong = machine.arbiter(*command, *arguments)
        assert wrong.code == 1
        assert said in wrong.err
        assert len(wrong.err.strip().splitlines()) == 1
    assert ordered(machine) == before


def test_what_is_down_or_unknown_is_not_scaled(machine: Machine) -> None:
    unknown = machine.arbiter("scale", "chat", "--replicas", "2")
    assert unknown.code == 1
    assert "no service is called 'chat'" in unknown.err
    machine.arbiter("launch", "tiny", "--no-wait")
    machine.arbiter("down", "tiny")
    ended = machine.arbiter("scale", "tiny", "--replicas", "2")
    assert ended.code == 1
    assert ended.err == "error: tiny is ordered down; arbiter launch tiny\n"
