"""`arbiter demo` as a user starts it: it answers, survives a reclaim, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arbiter.demo.folder import end_gateway

PATIENCE_S = 60.0
FAST = 240  # the reclaim comes twenty seconds after the start at any speed


class RunningDemo:
    """The process, with what it has said so far."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "arbiter", "demo", "--no-live", "--port", "0"]
        self.folder = folder
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*command, *arguments],
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def said(self, beginning: str) -> str:
        """The first line that begins so, once it is there."""
        return str(
            self.eventually(
                lambda: next((one for one in self.lines if one.startswith(beginning)), None)
            )
        )

    def eventually(self, condition: Callable[[], Any]) -> Any:
        """The first true answer while the demo runs."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            found = condition()
            if found:
                return found
            assert self.process.poll() is None, "\n".join(self.lines)
            time.sleep(0.1)
        raise AssertionError("\n".join(self.lines))

    def api(self, path: str) -> Any:
        """An answer of its API."""
        base = self.said("page and API: ").split()[3]
        with urllib.request.urlopen(f"{base}{path}", timeout=20) as answer:
            return json.load(answer)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait(30)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait until it has ended and all that it said was read; return its exit code."""
        code = self.process.wait(timeout=timeout_s)
        self._reader.join(timeout=10)
        return code

    def close(self) -> None:
        """Close the pipe, once nobody holds its other end."""
        self._reader.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def servers(self) -> list[int]:
        """Process ids of the servers that stand in its folder."""
        found = []
        for proc in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = proc.read_bytes()
            except OSError:
                continue
            if b"arbiter.demo.server" in command and str(self.folder).encode() in command:
                found.append(int(proc.parent.name))
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningDemo]]:
    demos: list[RunningDemo] = []

    def make(*arguments: str) -> RunningDemo:
        demos.append(RunningDemo(tmp_path, *arguments))
        return demos[-1]

    yield make
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()
        for server in demo.servers():
            os.kill(server, signal.SIGKILL)
        demo.close()
    for state in tmp_path.glob("arbiter-demo-*/*/gateway"):  # of a demo that a test has killed
        end_gateway(state)


def ask(demo: RunningDemo) -> Any:
    """A chat completion from a replica, with the key that the demo names."""
    [service] = demo.api("/api/v1/services")["services"]
    [key] = demo.folder.glob("arbiter-demo-*/*/api-key")
    endpoint = next(one["endpoint"] for one in service["replicas"] if one["state"] == "healthy")
    body = {"model": service["profile"], "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        f"{endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {key.read_text().strip()}",
        },
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_it_answers_survives_a_reclaim_and_leaves_nothing(
    start: Callable[..., RunningDemo],
) -> None:
    demo = start("--speed", str(FAST))
    assert demo.said("SIMULATED")
    demo.said("answering: http://")
    text = ask(demo)["choices"][0]["message"]["content"]
    assert "simulated" in text
    assert demo.servers()

    def reclaimed() -> list[Any]:
        events = demo.api("/api/v1/events?limit=1000")["events"]
        return [one for one in events if one["kind"] == "spot_reclaimed"]

    lost = demo.eventually(reclaimed)[0]["cluster"]

    def whole_again() -> Any:
        [service] = demo.api("/api/v1/services")["services"]
        clusters = [one["cluster"] for one in service["replicas"]]
        return service["healthy"] >= service["target"] and lost not in clusters

    demo.eventually(whole_again)
    assert "simulated" in ask(demo)["choices"][0]["message"]["content"]
    assert demo.api("/healthz")["status"] == "ok"

    assert demo.end(signal.SIGINT) == 0, "\n".join(demo.lines)
    assert demo.servers() == []
    assert list(demo.folder.glob("arbiter-demo-*/*")) == []
    assert "no server is left" in demo.lines[-1]
    assert not any("Traceback" in line for line in demo.lines), "\n".join(demo.lines)


def test_it_ends_by_itself_after_its_duration(start: Callable[..., RunningDemo]) -> None:
    demo = start("--duration", "3", "--replicas", "1", "--model", "llama8b")
    assert demo.wait() == 0
    assert demo.servers() == []
    assert list(demo.folder.glob("arbiter-demo-*/*")) == []


def test_what_a_killed_demo_left_is_ended_by_the_next(start: Callable[..., RunningDemo]) -> None:
    killed = start("--replicas", "1")
    killed.said("answering: http://")
    left = killed.servers()
    assert left
    killed.process.kill()
    killed.process.wait()
    assert killed.servers() == left

    following = start("--replicas", "1")
    told = following.said("an earlier demo was killed: ended the ")
    noun = "server" if len(left) == 1 else "servers"
    assert f"ended the {len(left)} {noun} it left" in told
    assert set(following.servers()).isdisjoint(left)
    following.said("answering: http://")
    # One that still runs is left alone.
    third = start("--replicas", "1", "--duration", "1")
    assert third.wait() == 0
    assert not any("earlier demo" in line for line in third.lines)
    assert following.servers()
    assert following.end(signal.SIGTERM) == 0


def test_an_unknown_model_is_one_line(start: Callable[..., RunningDemo]) -> None:
    demo = start("--model", "lama70b-awq")
    assert demo.wait() == 1
    assert [line for line in demo.lines if "did you mean" in line]
    assert list(demo.folder.glob("arbiter-demo-*/*")) == []
