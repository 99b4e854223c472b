"""`launch`, `down`, `pause` and `resume`, with replicas that really run on loopback."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import NO_PROVIDER, Machine

from arbiter.cli import working
from arbiter.clock import SystemClock
from arbiter.domain import Purchase
from arbiter.executors.local import LocalExecutor
from arbiter.lease import Lease
from arbiter.store import fleet
from arbiter.testing import priced


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Prices of this minute, no provider to ask, and no replica left at the end."""
    monkeypatch.setattr(working, "PAUSE_S", 0.05)
    made = Machine(tmp_path)
    made.clock = SystemClock()  # type: ignore[assignment]
    made.settings(NO_PROVIDER)
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


def services(machine: Machine) -> list[str]:
    store = machine.store()
    with store.begin() as connection:
        names = [one.name for one in fleet.services(connection)]
    store.close()
    return names


def test_a_launched_model_answers_until_it_is_ordered_down(machine: Machine) -> None:
    up = machine.arbiter("launch", "tiny", "--name", "chat", "--tag", "team=search", "--json")
    assert up.code == 0, up.err
    (replica,) = up.json["replicas"]
    assert (replica["state"], replica["region"]) == ("healthy", "eu-north-1")
    question = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        replica["endpoint"] + "/v1/chat/completions",
        json.dumps(question).encode(),
        {"Authorization": f"Bearer {(machine.folder / 'api-key').read_text().strip()}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["choices"]
    assert machine.arbiter("plan", "chat").code == 0
    down = machine.arbiter("down", "chat")
    assert down.code == 0
    assert "no replica runs" in down.out
    assert not LocalExecutor(machine.folder / "replicas").standing()


def test_a_second_launch_of_the_same_changes_nothing(machine: Machine) -> None:
    assert machine.arbiter("launch", "tiny").code == 0
    again = machine.arbiter("launch", "tiny", "--json")
    assert again.code == 0
    assert len(again.json["replicas"]) == 1
    assert len(LocalExecutor(machine.folder / "replicas").standing()) == 1


def test_a_dry_run_orders_nothing(machine: Machine) -> None:
    dry = machine.arbiter("launch", "tiny", "--dry-run")
    assert dry.code == 2
    assert "chose aws/eu-north-1" in dry.out
    assert services(machine) == []
    assert not (machine.folder / "replicas").exists()


def test_nothing_eligible_leaves_nothing_behind(machine: Machine) -> None:
    none = machine.arbiter("launch", "tiny", "--sovereignty", "eu-operator")
    assert none.code == 1
    assert "found no eligible offer" in none.out
    assert "refused 4 offers: " in none.out
    assert "to relax: sovereignty eu would let in 3 offers, the cheapest aws/eu-north-1" in none.err
    assert services(machine) == []
    machine.settings(NO_PROVIDER + "[policy]\nmax_usd_per_hour = 0.05\n")
    capped = machine.arbiter("plan", "tiny")
    assert capped.code == 1
    assert "to relax: policy.max_usd_per_hour = 0.30 would let in 1 offer" in capped.err


def test_where_no_offer_is_known_no_rule_is_named(tmp_path: Path) -> None:
    empty = Machine(tmp_path)
    empty.settings(NO_PROVIDER)
    none = empty.arbiter("plan", "tiny")
    assert none.code == 1
    assert "no offer is known: run arbiter poll" in none.out
    assert "rule" not in none.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-model"], "there is no profile 'no-such-model'"),
        (["tiny", "--sovereignty", "eux"], "eux"),
        (["tiny", "--name", "Chat Room"], "lower-case letters, digits and dashes"),
        (["tiny", "--tag", "nonsense"], "'nonsense' is not KEY=VALUE"),
        (["tiny", "--replicas", "0"], "--replicas"),
        (["tiny", "--tag", "a=b\x07"], "unprintable character"),
    ],
)
def test_a_wrong_word_is_one_line_and_orders_nothing(
    machine: Machine, arguments: list[str], said: str
) -> None:
    wrong = machine.arbiter("launch", *arguments)
    assert wrong.code == 1
    assert said in wrong.err
    assert len(wrong.err.strip().splitlines()) == 1
    assert services(machine) == []


def test_a_missing_secret_is_told_before_anything_is_ordered(machine: Machine) -> None:
    text = machine.toml.read_text().replace('executor = "local"', 'executor = "skypilot"')
    machine.toml.write_text(text)
    machine.sells("azure", [priced("swedencentral", "3.60", gpu="H200")])
    wrong = machine.arbiter("launch", "llama8b")
    assert wrong.code == 1
    assert "needs the secret HF_TOKEN" in wrong.err
    assert services(machine) == []


def test_another_model_under_a_name_in_use_is_refused(machine: Machine) -> None:
    assert machine.arbiter("launch", "tiny", "--name", "chat").code == 0
    machine.sells("azure", [priced("swedencentral", "3.60", gpu="H200")])
    wrong = machine.arbiter("launch", "llama8b", "--name", "chat")
    assert wrong.code == 1
    assert "serves tiny" in wrong.err


def test_down_in_the_middle_of_a_launch_ends_both(machine: Machine) -> None:
    executor = LocalExecutor(machine.folder / "replicas")
    executor.set_capacity({"aws": "hangs"})
    ended = threading.Event()

    def order_down() -> None:
        while not list((machine.folder / "replicas").glob("arb-*")) and not ended.wait(0.05):
            pass
        store = machine.store()
        with store.begin() as connection:
            fleet.order(connection, "chat", down=True)
        store.close()

    other = threading.Thread(target=order_down)
    other.start()
    launched = machine.arbiter("launch", "tiny", "--name", "chat")
    ended.set()
    other.join()
    assert launched.code == 1
    assert "error: chat was ordered down meanwhile" in launched.err
    assert machine.arbiter("down", "chat").code == 0
    assert not list((machine.folder / "replicas").glob("arb-*"))


def test_down_of_an_unknown_service_names_the_nearest(machine: Machine) -> None:
    assert machine.arbiter("launch", "tiny", "--name", "chat").code == 0
    wrong = machine.arbiter("down", "chatt")
    assert wrong.code == 1
    assert "did you mean chat?" in wrong.err


def test_pause_and_resume(machine: Machine) -> None:
    assert machine.arbiter("pause").out == "there are no services\n"
    assert machine.arbiter("launch", "tiny", "--name", "chat").code == 0
    assert machine.arbiter("pause", "chat").out == "paused chat\n"
    assert machine.arbiter("resume").out == "resumed chat\n"


def test_a_launch_beside_a_daemon_leaves_the_acting_to_it(machine: Machine) -> None:
    store = machine.store()
    daemon = Lease(store, machine.clock)
    daemon.holder = "elsewhere.example:1:0"
    assert daemon.acquire()
    waiting = threading.Timer(1.0, daemon.release)
    waiting.start()
    assert machine.arbiter("launch", "tiny").code == 0
    waiting.join()
    store.close()
