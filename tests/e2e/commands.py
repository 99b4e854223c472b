"""arbiter's commands, typed in a world, and what their answers say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

Environment = Mapping[str, str]

ARBITER = str(Path(sys.executable).with_name("arbiter"))
MODEL = "e2e-server"
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
