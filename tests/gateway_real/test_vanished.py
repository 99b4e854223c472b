"""A machine that vanishes says nothing: its packets are dropped, and no connection is reset."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HERE, Setup
from gateway_client import ask, clients, until

from arbiter.gateway.base import Backend
from arbiter.gateway.envoy import EnvoyGateway

pytestmark = pytest.mark.anyio

OURS, THEIRS = "198.51.100.1", "198.51.100.2"  # reserved for documentation: nobody's


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A network of its own, at the end of a cable that can be cut; its name."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and ip: apt-get install iproute2")
    name = f"gw{os.getpid()}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError:
        pytest.skip("needs the right to make network namespaces")
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
        ip("link", "set", f"{name}b", "netns", name)
        ip("addr", "add", f"{OURS}/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", name, "addr", "add", f"{THEIRS}/30", "dev", f"{name}b")
        ip("-n", name, "link", "set", f"{name}b", "up")
        yield name
    finally:
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False, capture_output=True)
        ip("netns", "del", name)


async def test_what_a_vanished_machine_had_not_begun_is_answered_by_another(
    setup: Setup, gateway: EnvoyGateway, elsewhere: str
) -> None:
    script = Path(HERE) / "vllm_like.py"
    command = ["ip", "netns", "exec", elsewhere, sys.executable, str(script), "gone"]
    process = subprocess.Popen(
        [*command, "--host", THEIRS], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    setup.stack.enter_context(process)
    setup.stack.callback(process.kill)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    gone = Backend("gone", f"http://{THEIRS}:{port}", None, "tiny")
    gateway.serve("svc", [gone])
    base = gateway.endpoint("svc")
    async with clients() as client:
        for _ in range(100):
            if (await ask(client, base)).status_code == 200:
                break
            await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(ask(client, base, first=50)) for _ in range(16)]
        await until(lambda: gateway.active("svc", "gone") == 16)
        setup.upstream("here")
        await asyncio.to_thread(gateway.serve, "svc", [gone, *setup.backends("here")])
        ip("-n", elsewhere, "link", "set", f"{elsewhere}b", "down")
        began = time.monotonic()
        # The other would think for 50 s too: it is enough that it was asked.
        await until(lambda: gateway.active("svc", "here") == 16, seconds=30)
        took = time.monotonic() - began
        for one in waiting:
            one.cancel()
    assert took < 20, "without keepalive it would be minutes"
