"""A daemon, servers on loopback and a real Envoy: load, more replicas, idleness, zero, and back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cli_world import NO_PROVIDER, Machine
from gateway_client import KEY, clients, until

from arbiter.clock import SystemClock
from arbiter.domain import Purchase, Replica, ReplicaState
from arbiter.executors.local import LocalExecutor
from arbiter.free_port import free_port
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.regions import load_atlas
from arbiter.store import fleet, journal
from arbiter.testing import priced

pytestmark = pytest.mark.anyio

PATIENCE_S = 120.0
SETTINGS = """
[daemon]
tick_s = 0.5
[scaling]
up_s = 2
down_s = 3
[policy]
max_spares = 0
[gateway]
enabled = true
port = {port}
state_dir = "{state}"
"""


class World:
    """A machine with a daemon that a test may kill."""

    def __init__(self, folder: Path, port: int) -> None:
        self.machine = Machine(folder)
        self.machine.clock = SystemClock()  # type: ignore[assignment]
        self.gateway = EnvoyGateway(folder / "gateway", lambda: [KEY], port=port)
        self.base = self.gateway.endpoint("chat")
        everything = self.machine.toml.read_text().replace("gateway.enabled = false\n", "")
        text = SETTINGS.format(port=port, state=folder / "gateway") + NO_PROVIDER
        self.machine.toml.write_text(everything + text)
        self.machine.sells(
            "aws",
            [
                priced("eu-north-1", "0.30", zone="eun1-az1"),
                priced("eu-north-1", "0.90", purchase=Purchase.ON_DEMAND),
            ],
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "daemon.log").open("wb")

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "arbiter", "--config", str(self.machine.toml)]
        process = subprocess.Popen(
            [*command, "daemon", "--port", "0"], stdout=self._log, stderr=self._log
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._log.close()
        self.gateway.stop()
        executor = LocalExecutor(self.machine.folder / "replicas")
        for cluster in list(executor.standing()):
            executor.terminate(cluster)

    def replicas(self) -> list[Replica]:
        store = self.machine.store()
        with store.read() as connection:
            found = fleet.replicas(connection, load_atlas(), "chat")
        store.close()
        return found

    def answering(self) -> int:
        return sum(one.state is ReplicaState.HEALTHY for one in self.replicas())

    def target(self) -> int:
        store = self.machine.store()
        with store.read() as connection:
            found = fleet.get_service(connection, "chat").replicas
        store.close()
        return found

    def told(self, kind: str) -> list[str]:
        store = self.machine.store()
        with store.read() as connection:
            found = [one.sentence for one in journal.events(connection) if one.kind == kind]
        store.close()
        return found

    def is_at_zero(self) -> bool:
        return self.target() == 0 and self.replicas() == []


@pytest.fixture
def world(
    envoy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    monkeypatch.setenv("ARBITER_API_KEY", KEY)
    made = World(tmp_path, free_port())
    yield made
    made.close()


async def completed(client: httpx.AsyncClient, base: str, tokens: int = 4) -> int:
    body = {"model": "tiny", "prompt": "hello", "max_tokens": tokens}
    return (await client.post(f"{base}/completions", json=body)).status_code


async def streamed(client: httpx.AsyncClient, base: str, tokens: int = 4) -> bool:
    """Whether a stream came to its end, uncut."""
    body = {"model": "tiny", "prompt": "hi", "max_tokens": tokens, "stream": True}
    reason = None
    async with client.stream("POST", f"{base}/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                return reason in ("stop", "length")
            if line:
                choices = json.loads(line.removeprefix("data: "))["choices"]
                reason = choices[0]["finish_reason"] if choices else reason
    return False


async def load(base: str, at_once: int, ending: asyncio.Event) -> list[int]:
    """So many clients that ask again and again; every status that was answered."""
    seen: list[int] = []

    async def one(client: httpx.AsyncClient) -> None:
        while not ending.is_set():
            seen.append(await completed(client, base, tokens=50))

    async with clients() as client:
        await asyncio.gather(*(one(client) for _ in range(at_once)))
    return seen


async def test_load_more_idleness_zero_and_the_first_request_again(world: World) -> None:
    daemon = world.start()
    launched = await asyncio.to_thread(
        world.machine.arbiter,
        *("launch", "tiny", "--name", "chat", "--min", "0", "--max", "3"),
        *("--requests-per-replica", "2", "--idle", "4s", "--hold", "2m"),
    )
    assert launched.code == 0, launched.err
    await until(lambda: world.answering() == 1, PATIENCE_S)

    ending = asyncio.Event()
    busy = asyncio.create_task(load(world.base, 7, ending))
    await until(lambda: world.answering() == 3, PATIENCE_S)
    ending.set()
    assert set(await busy) == {200}, "nothing failed while replicas came"

    await until(world.is_at_zero, PATIENCE_S)
    began = time.monotonic()
    async with clients() as client:
        assert await completed(client, world.base) == 200, "held, and answered by the newcomer"
    woke_s = time.monotonic() - began
    assert world.told("scaled")[-1].endswith("to 1 replicas: a request came")
    assert woke_s < PATIENCE_S

    await until(world.is_at_zero, PATIENCE_S)
    async with clients() as client:
        held = [asyncio.create_task(streamed(client, world.base)) for _ in range(6)]
        await until(lambda: world.gateway.counts()["chat"].held == 6)
        # A daemon that is killed while they wait is only a longer wait.
        daemon.kill()
        daemon.wait()
        world.start()
        assert all(await asyncio.gather(*held))
    print(f"woke in {woke_s:.2f} s")


async def test_a_service_without_a_hold_is_woken_by_a_503(world: World) -> None:
    world.start()
    launched = await asyncio.to_thread(
        world.machine.arbiter,
        *("launch", "tiny", "--name", "chat", "--min", "0", "--max", "2", "--idle", "3s"),
    )
    assert launched.code == 0, launched.err
    await until(world.is_at_zero, PATIENCE_S)
    async with clients() as client:
        body = {"model": "tiny", "prompt": "hello", "max_tokens": 2}
        refused = await client.post(f"{world.base}/completions", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        end = time.monotonic() + PATIENCE_S
        while await completed(client, world.base) != 200:
            assert time.monotonic() < end, "it never woke"
            await asyncio.sleep(0.2)
    assert world.told("scaled")[-1].endswith("to 1 replicas: a request came")
