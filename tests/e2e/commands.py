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

from simaws.world import World

from arbiter import registry
from arbiter.free_port import free_port
from arbiter.gateway.envoy import EnvoyGateway

Environment = Mapping[str, str]

ARBITER = str(Path(sys.executable).with_name("arbiter"))
MODEL = "e2e-server"
KEY = "end-to-end-key"
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


def chat(endpoint: str, key: str = KEY) -> dict[str, Any]:
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


def eventually(true: Callable[[], Any], seconds: float, what: str | Callable[[], str]) -> Any:
    """The first answer that counts as true.

    Args:
        what: was waited for; asked for only when it did not come.
    """
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() >= deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:.0f} s: {told}")
        time.sleep(1)
    return found


@contextmanager
def arbiter_in(world: World, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of an arbiter in a world: AWS only, a database and a gateway of its own.

    The gateway outlives every command; it is ended here.
    """
    here = Path(__file__).parent
    others = {
        f"ARBITER_PROVIDERS__{name.upper()}__ENABLED": "false"
        for name in registry.names()
        if name != "aws"
    }
    port = free_port()
    environment = {
        **world.process_environment(),
        **others,
        "ARBITER_GATEWAY__PORT": str(port),
        "ARBITER_DATABASE_URL": f"sqlite:///{folder / 'arbiter.db'}",
        "ARBITER_DATA_DIR": str(folder / "data"),
        "ARBITER_EXECUTOR": "skypilot",
        "ARBITER_PROFILES_DIR": str(here / "profiles"),
        "ARBITER_TEMPLATES_DIR": str(here / "templates"),
        "ARBITER_PROVIDERS__AWS__REGIONS": "eu-north-1,eu-central-1,eu-west-1,us-east-1",
        "ARBITER_API_KEY": KEY,
    }
    try:
        yield environment
    finally:
        EnvoyGateway(folder / "data" / "gateway", tuple, port=port).stop()


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
