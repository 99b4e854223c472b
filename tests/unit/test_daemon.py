"""The daemon's jobs, and the daemon as a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arbiter.daemon import Daemon, enabled_providers, listen
from arbiter.domain import Service
from arbiter.errors import ArbiterError, Unreachable
from arbiter.executors.fake import FakeExecutor
from arbiter.lease import Lease
from arbiter.settings import DaemonSettings, GatewaySettings, Settings
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from arbiter.testing import FakeClock, FakeProvider, priced

PATIENCE_S = 30.0


def eventually(condition: Callable[[], Any]) -> Any:
    """The first true answer; fails when there is none in time."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to be")


def make(store: Store, folder: Path, *providers: FakeProvider, lines: list[str]) -> Daemon:
    settings = Settings(
        database_url=store.url,
        data_dir=folder,
        executor="local",
        daemon=DaemonSettings(tick_s=3600),
        gateway=GatewaySettings(enabled=False),
    )
    return Daemon(
        settings,
        store,
        FakeExecutor(),
        {one.name: one for one in providers},
        FakeClock(),
        lambda _kind, text: lines.append(text),
    )


def test_it_polls_at_once_and_decides_on_the_first_prices_of_all(
    store: Store, tmp_path: Path
) -> None:
    lines: list[str] = []
    dear = FakeProvider("dear", [priced(usd="0.90")])
    cheap = FakeProvider("cheap", [priced(usd="0.10")])
    daemon = make(store, tmp_path, dear, cheap, lines=lines)
    with store.begin() as connection:
        fleet.add_service(connection, Service("llama8b", "llama8b"), daemon.clock.now())
    daemon.start()
    try:
        first = eventually(lambda: [line for line in lines if line.startswith("llama8b:")])
        assert {dear.fetches, cheap.fetches} == {1}
        with store.begin() as connection:
            decisions = journal.decisions(connection)
        assert [row.sentence for row in decisions] == first
        assert decisions[0].plan.refused_by_rule == {"country_unknown": 2}
    finally:
        daemon.stop()


def test_an_order_is_acted_on_long_before_the_next_tick(store: Store, tmp_path: Path) -> None:
    lines: list[str] = []
    daemon = make(store, tmp_path, lines=lines)
    daemon.start()
    try:
        eventually(lambda: daemon.pulse.beat("tick").ended_at)  # type: ignore[union-attr]
        assert lines == []
        with store.begin() as connection:
            fleet.add_service(connection, Service("llama8b", "llama8b"), daemon.clock.now())
        eventually(lambda: lines)
    finally:
        daemon.stop()


def test_only_a_change_of_a_polls_state_is_logged(store: Store, tmp_path: Path) -> None:
    lines: list[str] = []
    provider = FakeProvider("aws", [priced()])
    daemon = make(store, tmp_path, provider, lines=lines)
    daemon.start()
    try:
        eventually(lambda: lines)
        for _ in range(2):
            before = provider.fetches
            daemon.schedule.soon("poll aws")
            eventually(lambda before=before: provider.fetches > before)
        provider.fails(Unreachable("aws: no answer"))
        daemon.schedule.soon("poll aws")
        eventually(lambda: len(lines) > 1)
        provider.sells([priced()], notes=["of last week"])
        daemon.schedule.soon("poll aws")
        eventually(lambda: len(lines) > 2)
        assert lines == [
            "aws: 1 offers, 1 changed",
            "aws failed: no answer (0 offers)",
            "aws: 1 offers, 0 changed (of last week)",
        ]
    finally:
        daemon.stop()


def test_a_second_daemon_on_the_same_database_is_refused(store: Store, tmp_path: Path) -> None:
    first = make(store, tmp_path, lines=[])
    first.start()
    try:
        with pytest.raises(ArbiterError) as refused:
            make(store, tmp_path, lines=[]).start(patience_s=0)
        assert f"process {os.getpid()}" in str(refused.value)
    finally:
        first.stop()
    third = make(store, tmp_path, lines=[])
    third.start()
    third.stop()


def test_a_daemon_waits_for_a_command_that_acts(store: Store, tmp_path: Path) -> None:
    lines: list[str] = []
    daemon = make(store, tmp_path, lines=lines)
    command = Lease(store, daemon.clock)
    assert command.acquire()
    starting = threading.Thread(target=daemon.start, args=(PATIENCE_S,))
    starting.start()
    try:
        eventually(lambda: lines)
        assert lines == [f"waiting for process {os.getpid()} on {socket.gethostname()}, "
                         "which acts on this database now"]  # fmt: skip
        assert not daemon.schedule.running
        command.release()
        starting.join(PATIENCE_S)
        assert daemon.schedule.running
        assert not command.acquire()
    finally:
        command.release()
        starting.join(PATIENCE_S)
        daemon.stop()


def test_a_daemon_that_lost_its_lease_acts_no_more_and_ends(store: Store, tmp_path: Path) -> None:
    lines: list[str] = []
    daemon = make(store, tmp_path, lines=lines)
    daemon.start()
    try:
        eventually(lambda: daemon.pulse.beat("tick").ended_at)  # type: ignore[union-attr]
        clock = FakeClock(daemon.clock.now())
        clock.advance(60)  # the machine slept, and another took over
        assert Lease(store, clock).acquire()
        with store.begin() as connection:
            fleet.add_service(connection, Service("llama8b", "llama8b"), clock.now())
        assert daemon.ending.wait(PATIENCE_S)
        assert daemon.lost_lease
        with store.begin() as connection:
            assert journal.decisions(connection) == []
        assert lines == [
            f"lost the right to act on this database to process {os.getpid()} on "
            f"{socket.gethostname()}, and ended"
        ]
    finally:
        daemon.stop()


def test_a_port_that_is_taken_is_one_line() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(ArbiterError) as refused:
        listen("127.0.0.1", first.getsockname()[1])
    assert "cannot listen on 127.0.0.1:" in str(refused.value)
    assert "--port" in str(refused.value)


def test_a_provider_that_is_switched_off_is_not_polled() -> None:
    from arbiter.provider import ProviderSettings

    settings = Settings(providers={"aws": ProviderSettings(enabled=False)})
    assert "aws" not in enabled_providers(settings)
    assert "azure" in enabled_providers(settings)


# --- the process ----------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "arbiter.toml"
    nowhere = 'endpoint = "http://127.0.0.1:9"\nmax_attempts = 1\n'
    file.write_text(
        f'data_dir = "{tmp_path / "data"}"\nexecutor = "local"\n[daemon]\ntick_s = 0.2\n'
        "[gateway]\nenabled = false\n"
        f"[providers.aws]\n{nowhere}[providers.azure]\n{nowhere}",
        encoding="utf-8",
    )
    return file


@pytest.fixture
def spawn(config: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "arbiter", "--config", str(config)]
        process = subprocess.Popen(
            [*command, "daemon", "--port", "0", "--json"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def address(process: subprocess.Popen[str]) -> str:
    """Where a daemon serves, from its own words."""
    assert process.stderr is not None
    for line in process.stderr:
        text = str(json.loads(line)["text"])
        if text.startswith("arbiter serves "):
            return text.removeprefix("arbiter serves ")
    raise AssertionError("the daemon ended before it served")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(
    spawn: Callable[[], subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = spawn()
    with urllib.request.urlopen(f"{address(process)}/healthz", timeout=20) as answer:
        assert json.load(answer)["status"] in ("ok", "degraded")
    process.send_signal(number)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert json.loads(rest.splitlines()[-1])["text"].startswith("ended; the machines run on")


def test_after_a_kill_the_next_one_starts_at_once(
    spawn: Callable[[], subprocess.Popen[str]],
) -> None:
    first = spawn()
    address(first)
    first.kill()
    first.wait()
    assert address(spawn()).startswith("http://127.0.0.1:")
