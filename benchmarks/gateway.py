"""What the gateway adds to an answer, beside no gateway, SkyServe's load balancer and LiteLLM.

All forward to the same server, which answers at once, on loopback. They run side by side and are
asked in turns. Each peer gets an environment of its own, kept in the user's cache. Every answer is
read to its end and checked.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from _gateway_load import BODY, Target, one_by_one, streams, throughput
from _report import Row, arguments, interleaved, report, row

from arbiter.free_port import free_port
from arbiter.gateway.base import Backend
from arbiter.gateway.envoy import EnvoyGateway

HERE = Path(__file__).resolve().parent
PEERS = {"skyserve": "skypilot==0.14.1", "litellm": "litellm[proxy]==1.106.2"}
ADDED_GOAL_MS = 0.2
LAG_GOAL_MS = 1.0
RATE_GOALS = {"skyserve": 10, "litellm": 100}
KEY = "sk-of-the-benchmark"
CONNECTIONS = 32
STREAMS = 64


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[None]:
    """A program that runs meanwhile."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            yield
        finally:
            running.terminate()
            try:
                running.wait(timeout=10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def await_answer(name: str, target: Target, log: Path | None = None, seconds: float = 120) -> None:
    """Wait until one good answer comes."""
    end = time.monotonic() + seconds
    while True:
        try:
            one_by_one(target, 1)
            return
        except (OSError, AssertionError):
            if time.monotonic() > end:
                tail = log.read_text(errors="replace")[-2000:] if log else ""
                sys.exit(f"{name} never answered:\n{tail}")
            time.sleep(0.2)


def environment_of(peer: str) -> Path:
    """The Python of a peer's environment; made at the first run, which takes a minute."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "arbiter-benchmarks" / PEERS[peer].replace("==", "-").replace("[proxy]", "")
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--clear", "-p", "3.11", str(folder)], check=True)
        subprocess.run(
            [uv, "pip", "install", "-q", "--python", str(python), PEERS[peer]], check=True
        )
        done.touch()
    return python


class Controller(BaseHTTPRequestHandler):
    """What SkyServe's load balancer asks for its replicas."""

    replica = ""

    def do_POST(self) -> None:
        body = json.dumps({"replica_info": {self.replica: {"gpu_type": "none"}}}).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def skyserve(stack: ExitStack, folder: Path, upstream: int) -> tuple[Target, Path]:
    """SkyServe's load balancer, told of its one replica by a controller of ours."""
    Controller.replica = f"http://127.0.0.1:{upstream}"
    controller = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Controller))
    threading.Thread(target=controller.serve_forever, daemon=True).start()
    stack.callback(controller.shutdown)
    port, log = free_port(), folder / "skyserve.log"
    command = [str(environment_of("skyserve")), "-m", "sky.serve.load_balancer"]
    command += ["--controller-addr", f"http://127.0.0.1:{controller.server_port}"]
    command += ["--load-balancer-port", str(port)]
    stack.enter_context(process(command, log, HOME=str(folder)))
    return Target(port, "/v1/chat/completions", None), log


def litellm(stack: ExitStack, folder: Path, upstream: int) -> tuple[Target, Path]:
    """LiteLLM's proxy, as its documentation starts it, without a database."""
    config = {
        "model_list": [
            {
                "model_name": "tiny",
                "litellm_params": {
                    "model": "openai/tiny",
                    "api_base": f"http://127.0.0.1:{upstream}/v1",
                    "api_key": "none",
                },
            }
        ],
        "general_settings": {"master_key": KEY},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    port, log = free_port(), folder / "litellm.log"
    program = environment_of("litellm").with_name("litellm")
    command = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    stack.enter_context(process(command, log, HOME=str(folder), LITELLM_LOG="ERROR"))
    return Target(port, "/v1/chat/completions", KEY), log


def arbiter(stack: ExitStack, folder: Path, upstream: int) -> Target:
    """Ours."""
    port = free_port()
    gateway = EnvoyGateway(folder / "gateway", lambda: [KEY], port=port)
    stack.callback(gateway.stop)
    gateway.start()
    gateway.serve("svc", [Backend("one", f"http://127.0.0.1:{upstream}", "key", "tiny")])
    return Target(port, "/svc/v1/chat/completions", KEY)


def latency(direct: Target, ours: Target, *, quick: bool) -> Row:
    """Milliseconds that the gateway adds to an answer, one connection, medians of each round."""
    number = 300 if quick else 1000
    sides: Mapping[str, Callable[[int], float]] = {
        "direct": lambda _: statistics.median(one_by_one(direct, number)),
        "ours": lambda _: statistics.median(one_by_one(ours, number)),
    }
    figures = interleaved(sides, 3 if quick else 9)
    added = [
        1000 * (ours - direct)
        for ours, direct in zip(figures["ours"], figures["direct"], strict=True)
    ]
    return row("added to an answer, one connection, p50", "envoy", added, "ms", goal=ADDED_GOAL_MS)


def lag(direct: Target, ours: Target, *, quick: bool) -> Row:
    """Milliseconds that the gateway adds to a token's way, 64 streams at a time."""
    tokens = 40 if quick else 100
    sides: Mapping[str, Callable[[int], float]] = {
        "direct": lambda _: statistics.median(asyncio.run(streams(direct, STREAMS, tokens))),
        "ours": lambda _: statistics.median(asyncio.run(streams(ours, STREAMS, tokens))),
    }
    figures = interleaved(sides, 2 if quick else 5)
    print({name: [round(1000 * one, 3) for one in found] for name, found in figures.items()})
    added = [
        1000 * (ours - direct)
        for ours, direct in zip(figures["ours"], figures["direct"], strict=True)
    ]
    return row(
        f"added to a token's lag, {STREAMS} streams, p50", "envoy", added, "ms", goal=LAG_GOAL_MS
    )


def rates(targets: Mapping[str, Target], *, quick: bool) -> list[Row]:
    """Milliseconds per request at 32 connections; the ratio is that of requests per second."""
    seconds = 2.0 if quick else 5.0
    sides = {
        name: lambda _, target=target: 1000 / asyncio.run(throughput(target, CONNECTIONS, seconds))
        for name, target in targets.items()
    }
    figures = interleaved(sides, 2 if quick else 5)
    rows = []
    for peer in targets:
        if peer == "arbiter":
            continue
        goal = RATE_GOALS.get(peer)
        most = None if goal is None else statistics.median(figures[peer]) / goal
        rows.append(
            row(
                f"time per request, {CONNECTIONS} connections",
                "envoy",
                figures["arbiter"],
                "ms",
                peer=peer,
                theirs=figures[peer],
                goal=None if most is None else round(most, 4),
            )
        )
    return rows


def main() -> None:
    given = arguments(__doc__)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arbiter-gateway-")))
        upstream = free_port()
        stack.enter_context(
            process(
                [sys.executable, str(HERE / "_gateway_upstream.py"), str(upstream)],
                folder / "upstream.log",
            )
        )
        direct = Target(upstream, "/v1/chat/completions", "key")
        await_answer("the server", direct)
        ours = arbiter(stack, folder, upstream)
        await_answer("the gateway", ours)
        rows = [latency(direct, ours, quick=given.quick), lag(direct, ours, quick=given.quick)]
        targets = {"arbiter": ours, "direct": direct}
        for name, make in (("skyserve", skyserve), ("litellm", litellm)):
            targets[name], log = make(stack, folder, upstream)
            await_answer(name, targets[name], log)
        rows += rates(targets, quick=given.quick)
    report(rows, given.json)


if __name__ == "__main__":
    assert json.loads(BODY)
    main()
