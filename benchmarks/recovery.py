"""Recovery from a reclaimed spot machine: arbiter beside SkyServe, on one simulated AWS.

    sudo python benchmarks/recovery.py [--rounds 3] [--quick] [--json FILE]

Both keep one replica of the same small server on spot machines of the same regions, through the
same SkyPilot API server; SkyServe with its SpotHedge placer (`dynamic_fallback` and dynamic
on-demand fallback), arbiter as it comes but for spares: with none, so that the two are alike, and
then with those that its policy would keep. In each round the machine that answers is taken without
a word, one side's after the other's, while a client asks ten times a second. Reported are the
seconds until another machine answers at the address that clients know, and for how long nobody
answered.

It needs root, and what tests/e2e needs: its simulated AWS is used, with machines that really run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

import yaml
from _report import Row, report, row

REPOSITORY = Path(__file__).resolve().parents[1]
E2E = REPOSITORY / "tests" / "e2e"
sys.path.insert(0, str(E2E))

from commands import ARBITER, KEY, MODEL, arbiter_in  # noqa: E402
from simaws.image import NoImage, image  # noqa: E402
from simaws.world import World, missing, running_world  # noqa: E402

SERVICE = "chat"
REGIONS = ("eu-north-1", "eu-central-1", "eu-west-1")
SERVE_HERE = "serve: {controller: {consolidation_mode: true}}"
"""SkyServe's controller runs in the API server, on no machine of its own."""

STEP_S = 0.1
UP_S = 900.0
BIN = Path(sys.executable).parent


class Answer(NamedTuple):
    """One answer: when it was there, and the machine that gave it; None: there was none."""

    at: float
    machine: str | None


class Client:
    """Asks one endpoint again and again, one question at a time."""

    def __init__(self, url: str) -> None:
        self.answers: list[Answer] = []
        self._url = f"{url}/v1/chat/completions"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_for(self, true: Callable[[Answer], bool], seconds: float) -> Answer:
        """The first answer from now on that is so."""
        seen, end = len(self.answers), time.monotonic() + seconds
        while time.monotonic() < end:
            for one in self.answers[seen:]:
                seen += 1
                if true(one):
                    return one
            time.sleep(STEP_S / 2)
        raise SystemExit(f"error: nothing new answered at {self._url} within {seconds:.0f} s")

    def _run(self) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "olleh"}]}
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        while not self._stop.wait(STEP_S):
            machine = None
            try:
                asked = Request(self._url, json.dumps(body).encode(), headers)
                with urlopen(asked, timeout=10) as answer:
                    machine = json.load(answer)["machine"]
            except (OSError, ValueError, KeyError):
                pass
            self.answers.append(Answer(time.monotonic(), machine))


class Recovery(NamedTuple):
    """Of one reclaim, in seconds.

    Attributes:
        ready_s: until the first answer of a machine that took no part before.
        silent_s: for how long nobody answered.
        failed: questions without an answer.
    """

    ready_s: float
    silent_s: float
    failed: int


def reclaim(world: World, client: Client) -> Recovery:
    """Take the machine that answers, and wait for a new one."""
    before = {one["InstanceId"] for one in world.instances()}
    old = client.wait_for(lambda one: one.machine is not None, UP_S).machine
    (instance,) = (one for one in world.instances() if one["InstanceId"] == old)
    first = len(client.answers)
    at = time.monotonic()
    world.reclaim(instance)
    new = client.wait_for(lambda one: one.machine is not None and one.machine not in before, UP_S)
    answers = [one for one in client.answers[first:] if one.at <= new.at]
    failed = sum(one.machine is None for one in answers)
    silent, last = 0.0, at
    for one in answers:
        if one.machine is not None and one.machine != old:
            silent = max(silent, one.at - last)
        if one.machine is not None:
            last = one.at
    return Recovery(new.at - at, silent if failed else 0.0, failed)


@contextmanager
def arbiter_side(world: World, folder: Path, spares: int) -> Iterator[str]:
    """A service under arbiter's daemon; its endpoint."""
    folder.mkdir()
    with arbiter_in(world, folder) as found:
        environment = {
            **found,
            "ARBITER_PROVIDERS__AWS__REGIONS": ",".join(REGIONS),
            "ARBITER_DAEMON__PORT": "0",
            "ARBITER_POLICY__MAX_SPARES": str(spares),
            # SpotHedge goes on trying spot; so does arbiter, that one is measured beside the other.
            "ARBITER_POLICY__FALLBACK_AFTER": "100",
        }
        run(environment, ARBITER, "launch", MODEL, "--name", SERVICE)
        with (folder / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen([ARBITER, "daemon"], env=environment, stderr=log)
        try:
            (seen,) = json.loads(run(environment, ARBITER, "status", SERVICE, "--json"))["services"]
            yield seen["endpoint"].removesuffix("/v1")
            run(environment, ARBITER, "down", SERVICE)
        finally:
            daemon.terminate()
            daemon.wait(120)


@contextmanager
def skyserve_side(world: World, folder: Path) -> Iterator[str]:
    """The same service under SkyServe; its endpoint."""
    folder.mkdir()
    task = yaml.safe_load(rendered())
    file = folder / "service.yaml"
    file.write_text(yaml.safe_dump(task), encoding="utf-8")
    environment = world.process_environment()
    told = run(environment, BIN / "sky", "serve", "up", str(file), "-n", SERVICE, "-y")
    try:
        found = [word for word in told.replace("\x1b", " ").split() if word.count(":") >= 1]
        ports = [word.rpartition(":")[2][:5] for word in found if "300" in word.rpartition(":")[2]]
        if not ports:
            raise SystemExit(f"error: sky serve up tells of no endpoint:\n{told}")
        yield f"http://127.0.0.1:{ports[-1]}"
    finally:
        run(environment, BIN / "sky", "serve", "down", SERVICE, "-y")


def rendered() -> str:
    """The task of SkyServe: the server of arbiter's own task, and SpotHedge."""
    source = (E2E / "templates" / "tasks" / "openai_stub.yaml.j2").read_text(encoding="utf-8")
    script = source.partition("run: |\n")[2]
    lines = "\n".join(line.removeprefix("  ") for line in script.splitlines())
    policy = {
        "min_replicas": 1,
        "max_replicas": 1,
        "target_qps_per_replica": 1000,
        "spot_placer": "dynamic_fallback",
        "dynamic_ondemand_fallback": True,
        "base_ondemand_fallback_replicas": 0,
    }
    service = {
        "readiness_probe": {"path": "/health", "initial_delay_seconds": 120},
        "replica_policy": policy,
    }
    resources = {
        "accelerators": {"L4": 1},
        "use_spot": True,
        "disk_size": 32,
        "ports": 8000,
        "any_of": [{"infra": f"aws/{region}"} for region in REGIONS],
    }
    envs = {"MODEL": MODEL, "PORT": "8000", "ARBITER_API_KEY": KEY}
    document = {"service": service, "resources": resources, "envs": envs, "run": lines}
    return yaml.safe_dump(document)


def run(environment: Mapping[str, str], *command: str | Path) -> str:
    """What a command prints."""
    done = subprocess.run(
        [str(word) for word in command],
        env=dict(environment),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=UP_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"error: {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr if "sky" in str(command[0]) else done.stdout


def told(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measured(world: World, sides: Mapping[str, Client], rounds: int) -> dict[str, list[Recovery]]:
    """The recoveries of each side, in turn."""
    found: dict[str, list[Recovery]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, client in sides.items():
            found[name].append(reclaim(world, client))
            told(f"round {number + 1}: {name}: {found[name][-1]}")
    return found


def rows_of(found: Mapping[str, list[Recovery]], name: str) -> list[Row]:
    """One arbiter beside SkyServe."""
    ours, theirs = found[name], found["SkyServe"]
    result = []
    for figure, text in (("ready_s", "until a new machine answers"), ("silent_s", "of silence")):
        mine = [getattr(one, figure) for one in ours]
        peer = [getattr(one, figure) for one in theirs]
        result.append(
            row(f"seconds {text}, {name}", "simulated AWS", mine, "s", peer="SkyServe",
                theirs=peer, goal=statistics.median(peer))
        )  # fmt: skip
    return result


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, without spares only")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    needs = missing()
    if needs is not None:
        raise SystemExit(f"error: {needs}")
    try:
        image()
    except NoImage as error:
        raise SystemExit(f"error: {error}") from None
    # Whoever ends this ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    rounds = 1 if given.quick else given.rounds
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="recovery-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        told("the world is made")
        with running_world(folder / "world", SERVE_HERE) as world, ExitStack() as stack:
            told("SkyServe brings its replica up")
            theirs = stack.enter_context(skyserve_side(world, folder / "skyserve"))
            peer = stack.enter_context(Client(theirs))
            peer.wait_for(lambda one: one.machine is not None, UP_S)
            for label, spares in (("no spare", 0), ("the policy's spares", 2)):
                if spares and given.quick:
                    continue
                told(f"arbiter brings its replica up: {label}")
                with (
                    arbiter_side(world, folder / f"arbiter-{spares}", spares) as url,
                    Client(url) as ours,
                ):
                    name = f"arbiter, {label}"
                    rows += rows_of(measured(world, {name: ours, "SkyServe": peer}, rounds), name)
    report(rows, given.json)
    told(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
