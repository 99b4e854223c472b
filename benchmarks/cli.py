"""The command line from the prompt to the prompt: `arbiter`, and SkyPilot's own for the same.

Whole processes on a warm page cache, one after the other in turn. Ours lists 12,000 stored offers
for a model that has to be sized on each; SkyPilot lists one GPU's prices from a catalog of a few
hundred rows, through its API server, which is started beforehand and not timed. Both run offline
with a home of their own.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from _report import Row, arguments, interleaved, report, row

from arbiter.domain import Purchase
from arbiter.money import Price
from arbiter.provider import PricedOffer
from arbiter.regions import load_atlas
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from simaws.ports import KeptPorts

BIN = Path(sys.executable).parent
OFFERS = 12_000
MODEL = "llama70b-awq"
CLOUDS = ("aws", "azure", "gcp", "lambda", "runpod")
MACHINES = (
    ("L4", 1), ("L4", 4), ("A10G", 4), ("L40S", 1), ("L40S", 4), ("A100-80GB", 1),
    ("A100-80GB", 8), ("H100", 1), ("H100", 8), ("H200", 8), ("T4", 1), ("A100-40GB", 8),
    ("B200", 8), ("A10", 1), ("V100-16GB", 8), ("MI300X", 8),
)  # fmt: skip

HELP_S, OFFERS_S, TIMES = 0.12, 0.35, 15.0
"""Goals: seconds for `--help` and `offers`, and how many times quicker than SkyPilot's."""

START_S = 240.0


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    rounds = 3 if options.quick else 9
    with tempfile.TemporaryDirectory(prefix="arbiter-bench-") as folder:
        home = Path(folder)
        environment = _environment(home)
        environment["ARBITER_DATABASE_URL"] = f"sqlite:///{home / 'arbiter.db'}"
        _fill(environment["ARBITER_DATABASE_URL"])
        _check_ours(environment)
        with _skypilot(home, environment) as trouble:
            sides = {name: _timed(command, environment) for name, command in OURS.items()}
            if trouble is None:
                trouble = _check_theirs(environment)
            theirs = {"sky --help": THEIRS["sky --help"]} if trouble else THEIRS
            if (BIN / "sky").exists():
                sides |= {name: _timed(command, environment) for name, command in theirs.items()}
            for measure in sides.values():
                measure(0)  # fill the page cache and the bytecode
            figures = interleaved(sides, rounds)
    if trouble:
        print(f"not compared with `sky gpus list`: {trouble}")
    report(_rows(figures), options.json)


OURS = {
    "help": [str(BIN / "arbiter"), "--help"],
    "offers": [str(BIN / "arbiter"), "offers", MODEL],
    "offers --json": [str(BIN / "arbiter"), "offers", MODEL, "--json"],
}
THEIRS = {
    "sky --help": [str(BIN / "sky"), "--help"],
    "sky gpus list": [str(BIN / "sky"), "gpus", "list", "L4", "--all-regions"],
}


def _rows(figures: Mapping[str, list[float]]) -> list[Row]:
    rows: list[Row] = []
    pairs = (("help", "sky --help", HELP_S), ("offers", "sky gpus list", OFFERS_S),
             ("offers --json", "sky gpus list", OFFERS_S))  # fmt: skip
    for ours, peer, goal in pairs:
        theirs = figures.get(peer, [])
        made = row(f"arbiter {ours}", "cpython", figures[ours], "s",
                   peer=peer, theirs=theirs, goal=goal)  # fmt: skip
        rows.append(made)
        ratio = made.ratio
        rows.append(
            Row(
                f"arbiter {ours}, times as quick as {peer}",
                "cpython",
                ratio if ratio is not None else float("nan"),
                "x",
                peer,
                made.peer_value,
                ratio,
                TIMES,
                None if ratio is None else ratio >= TIMES,
            )
        )
    return [one for one in rows if one.value == one.value]


def _timed(command: list[str], environment: Mapping[str, str]) -> Callable[[int], float]:
    """Seconds from the start of a process to its end."""

    def measure(_: int) -> float:
        began = time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - began

    return measure


def _environment(home: Path) -> dict[str, str]:
    """Nobody's settings, a home of its own, and bytecode that is kept as on any machine."""
    kept = ("PATH", "LANG", "TMPDIR")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(home),
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


# --- ours -------------------------------------------------------------------------------------


def _fill(url: str) -> None:
    """12,000 offers in the real regions of five clouds."""
    store, atlas, now = Store(url), load_atlas(), datetime.now(UTC)
    random_state = random.Random(1)
    for cloud in CLOUDS:
        offers = _offers(atlas.regions(cloud), OFFERS // len(CLOUDS), random_state)
        covered = frozenset((offer.region, offer.purchase) for offer in offers)
        with store.begin() as connection:
            PriceBook(cloud).record(connection, offers, covered, PollRow(cloud, now, now, "ok"))
    store.close()


def _offers(regions: tuple[str, ...], count: int, random_state: random.Random) -> list[PricedOffer]:
    offers = []
    for number in range(count):
        region, kind = regions[number % len(regions)], number // len(regions)
        (gpu, gpus), variant = MACHINES[kind % len(MACHINES)], kind // len(MACHINES)
        spot = variant % 2 == 0
        usd = random_state.uniform(0.3, 0.9) * gpus * (1 if spot else 3)
        offers.append(
            PricedOffer(
                "standard",
                region,
                f"{region}-{variant}" if spot else None,
                f"type{variant}.{gpu}x{gpus}",
                gpu,
                gpus,
                Purchase.SPOT if spot else Purchase.ON_DEMAND,
                Price(int(usd * 1_000_000)),
                source="benchmark",
            )
        )
    return offers


def _check_ours(environment: Mapping[str, str]) -> None:
    """Every stored offer must be in the answer before its time is believed."""
    done = subprocess.run(OURS["offers --json"], env=environment, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    listed, refused = len(answer["offers"]), len(answer["refused"])
    costs = [float(one["usd_per_mtok"]) for one in answer["offers"]]
    if listed + refused != OFFERS or not listed or costs != sorted(costs):
        raise SystemExit(f"wrong answer: {listed} listed, {refused} refused of {OFFERS}")


# --- SkyPilot ---------------------------------------------------------------------------------

COLUMNS = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,"
    "Region,AvailabilityZone"
)
OTHERS = (
    "gcp", "azure", "lambda", "runpod", "ibm", "oci", "scp", "cudo", "vast", "primeintellect",
    "fluidstack", "shadeform", "paperspace", "seeweb", "do", "yotta", "nebius", "hyperbolic",
    "mithril", "verda",
)  # fmt: skip


@contextmanager
def _skypilot(home: Path, environment: dict[str, str]) -> Iterator[str | None]:
    """An API server on a port of its own; gives why there is none, or None."""
    if not (BIN / "sky").exists():
        yield "SkyPilot is not installed: pip install 'arbiter[skypilot]'"
        return
    _catalog(home / ".sky" / "catalogs" / "v8")
    ports = KeptPorts()  # SkyPilot refuses to start where its queue's port is taken
    port = ports.api
    environment["SKYPILOT_API_SERVER_LOCAL_PORT"] = str(port)
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [str(BIN / "sky"), "api", "start", "--foreground", "--port", str(port)],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield _wait(server, f"http://127.0.0.1:{port}/api/health")
        finally:
            _end(server)
            ports.close()


def _end(server: subprocess.Popen[bytes]) -> None:
    """End it and its workers, which leave its process group."""
    workers = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
    server.terminate()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    server.kill()
    server.wait()


def _wait(server: subprocess.Popen[bytes], url: str) -> str | None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            return f"its API server ended with {server.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=10):
                return None
        except OSError:
            time.sleep(0.5)
    return f"its API server did not answer within {START_S:.0f} s"


def _catalog(root: Path) -> None:
    """L4 machines in every AWS region of ours, and nothing elsewhere: SkyPilot reads every file.

    Files that it did not download itself it neither replaces nor lets expire.
    """
    columns = f"{COLUMNS},Arch,LocalDiskType,NVMeSupported,LocalDiskSize,LocalDiskCount"
    rows = [
        _machine(f"g6.{size}xlarge", gpus, region, zone)
        for region in load_atlas().regions("aws")
        for size, gpus in ((1, 1), (12, 4), (48, 8))
        for zone in (1, 2, 3)
    ]
    _write(root / "aws" / "vms.csv", f"{columns},MaximumEfaInterfaces", [[*r, ""] for r in rows])
    _write(root / "aws" / "instance_quota_mapping.csv",
           "InstanceType,OnDemandInstanceCode,SpotInstanceCode", [])  # fmt: skip
    for cloud in OTHERS:
        _write(root / cloud / "vms.csv", COLUMNS, [])
    images = "Tag,Region,OS,OSVersion,ImageId,CreationDate"
    for cloud in ("aws", "gcp", "azure", "kubernetes"):
        _write(root / cloud / "images.csv", f"{images},BaseImageId", [])
    _write(
        root / "gcp" / "accelerator_quota_mapping.csv", "Accelerator,OnDemandQuota,SpotQuota", []
    )
    _write(root / "common" / "accelerators.csv", "AcceleratorName,Clouds", [["L4", "['AWS']"]])
    _write(root / "common" / "metadata.csv", "Manufacturer,GPU,MemoryGB", [["NVIDIA", "L4", 24]])


def _machine(name: str, gpus: int, region: str, zone: int) -> list[object]:
    gpu = {
        "Name": "L4", "Manufacturer": "NVIDIA", "Count": float(gpus),
        "MemoryInfo": {"SizeInMiB": 24576},
    }  # fmt: skip
    info = str({"Gpus": [gpu], "TotalGpuMemoryInMiB": 24576 * gpus})
    prices = (0.8 * gpus, 0.3 * gpus, region, f"{region}-az{zone}")
    return [name, "L4", gpus, 4 * gpus, 16 * gpus, info, *prices, "x86_64", "", "", "", ""]


def _write(path: Path, header: str, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)


def _check_theirs(environment: Mapping[str, str]) -> str | None:
    """Why SkyPilot's list is not what it should be, or None."""
    try:
        done = subprocess.run(
            THEIRS["sky gpus list"], env=environment, capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        return "`sky gpus list` did not end within two minutes"
    if done.returncode or "eu-central-1" not in done.stdout:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        return f"`sky gpus list` said: {said[-1][:200]}"
    return None


if __name__ == "__main__":
    main()
