"""What the commands print, to the letter: for a fixed market, fleet and clock."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cli_fleet import decide
from cli_world import NOW, Machine, market

from arbiter import registry
from arbiter.domain import Purchase
from arbiter.errors import MissingCredentials
from arbiter.provider import ProviderSettings, Skip
from arbiter.scaling import Load, Scaling
from arbiter.service_hours import ScheduleWindow
from arbiter.store import fleet
from arbiter.store.scaling import keep_load
from arbiter.testing import FakeProvider, priced

REPOSITORY = Path(__file__).parents[2]

Golden = Callable[[str, str], None]


class Calm(FakeProvider):
    """Sells two offers, and leaves out a row of a wrong price."""

    def __init__(self, _: ProviderSettings) -> None:
        super().__init__("calm", [priced("eu-north-1"), priced("eu-west-1", "1.25")])
        self.sells(
            [priced("eu-north-1"), priced("eu-west-1", "1.25")],
            skips=[Skip("not a GPU")] * 3 + [Skip("price is 0", malformed=True)],
            covered=[("eu-north-1", Purchase.SPOT), ("eu-west-1", Purchase.SPOT)],
            degraded=["eu-south-1: not enabled on the account"],
        )


class Copied(FakeProvider):
    """Says something of all of its prices; nothing is missing."""

    def __init__(self, _: ProviderSettings) -> None:
        super().__init__("copied")
        self.sells([priced("eu-north-1")], notes=["prices of an age that is not told"])


class Locked(FakeProvider):
    """Has no credentials."""

    def __init__(self, _: ProviderSettings) -> None:
        super().__init__("locked")
        self.fails(MissingCredentials("locked: no API key is set", "export LOCKED_API_KEY=..."))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    market(machine)
    machine.is_owned()
    return machine


def transcript(machine: Machine, *arguments: str) -> str:
    """The command, its exit code and both outputs, without what differs from run to run."""
    ended = machine.arbiter(*arguments)
    out = ended.out
    if "--json" in arguments:
        out = json.dumps(json.loads(out), indent=1, ensure_ascii=False) + "\n"
    text = f"$ arbiter {' '.join(arguments)}\n{out}--- stderr\n{ended.err}--- exit {ended.code}\n"
    return text.replace(str(machine.folder), "FOLDER").replace(str(REPOSITORY), "REPOSITORY")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("offers-model", ["offers", "llama70b-awq"]),
        ("offers-all", ["offers"]),
        ("offers-refused", ["offers", "llama70b-awq", "--refused"]),
        ("offers-explained", ["offers", "llama70b-awq", "--explain", "--limit", "2"]),
        ("offers-json", ["offers", "llama70b-awq", "--json"]),
        ("offers-none", ["offers", "llama70b-awq", "--sovereignty", "eu-certified"]),
        ("plan", ["plan", "llama70b-awq", "--replicas", "2"]),
        ("plan-json", ["plan", "llama70b-awq", "--json"]),
        ("plan-unknown", ["plan", "llama70b-aws"]),
        ("status-empty", ["status"]),
        ("help", ["--help"]),
        ("help-offers", ["offers", "--help"]),
    ],
)
def test_output(machine: Machine, golden: Golden, name: str, arguments: list[str]) -> None:
    golden(name, transcript(machine, *arguments))


def test_output_of_a_poll(
    machine: Machine, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "calm", f"{__name__}:Calm")
    monkeypatch.setitem(registry.BUILT_IN, "locked", f"{__name__}:Locked")
    monkeypatch.setitem(registry.BUILT_IN, "copied", f"{__name__}:Copied")
    golden("poll", transcript(machine, "poll", "locked", "calm", "copied"))
    golden("poll-failed", transcript(machine, "poll", "locked"))
    golden("poll-json", transcript(machine, "poll", "calm", "--json"))


def test_output_of_a_service_that_follows_hours_and_load(machine: Machine, golden: Golden) -> None:
    decide(machine)
    window = ScheduleWindow.parse("mon-fri 08:00-20:00 Europe/Berlin = 4")
    scaling = Scaling(0, 6, (window,), requests_per_replica=20, idle_s=1200)
    store = machine.store()
    with store.begin() as connection:
        fleet.scale(connection, "chat", 2, scaling, NOW)
        keep_load(connection, "chat", Load(NOW, NOW, 17, 240), timedelta(minutes=8))
    store.close()
    golden("status-scaling", transcript(machine, "status"))
    golden("scale-wrong", transcript(machine, "scale", "chat", "--max", "2"))


def test_output_of_a_running_service(machine: Machine, golden: Golden) -> None:
    decision = decide(machine)
    for name, arguments in {
        "status": ["status"],
        "status-json": ["status", "chat", "--json"],
        "status-unknown": ["status", "cat"],
        "explain": ["explain", "chat"],
        "explain-replay": ["explain", decision[:6], "--replay"],
        "explain-json": ["explain", decision, "--json"],
    }.items():
        text = transcript(machine, *arguments)
        golden(name, re.sub(rf"{decision}|{decision[:6]}", "DECISION", text))
