"""A real Envoy on loopback, and vLLM-like servers behind it. Each ends what it started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from gateway_client import KEY

from arbiter.errors import GatewayError
from arbiter.free_port import free_port
from arbiter.gateway import binary
from arbiter.gateway.base import Backend, BackendState
from arbiter.gateway.envoy import EnvoyGateway

HERE = Path(__file__).parent


@dataclass
class Upstream:
    """A server behind the gateway."""

    name: str
    process: subprocess.Popen[str]
    port: int
    key: str | None
    tls: bool = False

    @property
    def url(self) -> str:
        return f"{'https://localhost' if self.tls else 'http://127.0.0.1'}:{self.port}"

    def kill(self) -> None:
        """As a reclaimed machine goes: without a word."""
        self.process.kill()
        self.process.wait()

    def backend(self, state: BackendState = BackendState.SERVING) -> Backend:
        return Backend(self.name, self.url, self.key, "tiny", state)


@dataclass
class Setup:
    """A gateway and what stands behind it.

    Attributes:
        keys: of the clients; a test may change them while the gateway runs.
    """

    state: Path
    port: int
    stack: ExitStack
    keys: list[str] = field(default_factory=lambda: [KEY])
    upstreams: dict[str, Upstream] = field(default_factory=dict)

    def gateway(self, workers: int = 2, drain_s: float = 60.0) -> EnvoyGateway:
        """A driver of this state folder, as a daemon that was just started makes one."""
        return EnvoyGateway(
            self.state, lambda: self.keys, port=self.port, workers=workers, drain_s=drain_s
        )

    def upstream(self, name: str, key: str | None = None, *arguments: str) -> Upstream:
        command = [sys.executable, str(HERE / "vllm_like.py"), name, *arguments]
        if key is not None:
            command += ["--key", key]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        assert process.stdout is not None
        port = int(process.stdout.readline())
        self.upstreams[name] = Upstream(name, process, port, key, "--tls" in arguments)
        return self.upstreams[name]

    def backends(self, *names: str, **states: BackendState) -> list[Backend]:
        """Serving ones by name, others with their state."""
        chosen = dict.fromkeys(names, BackendState.SERVING) | states
        return [
            replace(self.upstreams[name].backend(), state=state) for name, state in chosen.items()
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="session")
def envoy() -> Path:
    try:
        return binary.find()
    except GatewayError as error:
        pytest.skip(f"needs Envoy: {error}")


@pytest.fixture
def setup(envoy: Path, tmp_path: Path) -> Iterator[Setup]:
    # As deep as people's home folders can be: the path of a socket has at most 107 bytes.
    state = tmp_path / ("deep-" * 12) / ("deeper-" * 8) / "gateway"
    with ExitStack() as stack:
        made = Setup(state, free_port(), stack)
        stack.callback(lambda: made.gateway().stop())
        yield made


@pytest.fixture
def gateway(setup: Setup) -> EnvoyGateway:
    """A started one."""
    made = setup.gateway()
    made.start()
    return made


@pytest.fixture
def anyio_backend() -> str:
    """The clients of these tests run on asyncio."""
    return "asyncio"
