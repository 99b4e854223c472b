"""A world to test in: the simulated AWS, a SkyPilot API server that knows no other, and a HOME.

Everything it starts it also ends, by process id: the simulated AWS ends its machines, and the API
server lives in a process namespace that takes all of its workers with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from simaws.catalog import write_catalog
from simaws.image import image, moto_python
from simaws.market import ZONES, Market, first_prices
from simaws.ports import KeptPorts

TOOLS = {
    "debootstrap": "debootstrap",
    "socat": "socat",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "curl": "curl",
    "ip": "iproute2",
}
"""Program -> the Debian package that brings it."""

SERVE_S = 60.0
API_SERVER_S = 180.0
END_S = 30.0


def missing() -> str | None:
    """Why no world can be made on this machine, with the command that helps; None if it can."""
    if sys.platform != "linux":
        return "needs Linux: the simulated machines are its namespaces"
    if os.geteuid() != 0:
        return "needs root, to make machines: sudo .venv/bin/python -m pytest tests/e2e"
    packages = sorted({pkg for tool, pkg in TOOLS.items() if shutil.which(tool) is None})
    if packages:
        return f"needs programs: apt-get install -y {' '.join(packages)}"
    if find_spec("sky") is None:
        return "needs SkyPilot: pip install 'arbiter[skypilot]'"
    if not _may_isolate():
        return "needs namespaces and overlay mounts: in a container, run it with --privileged"
    return None


def _may_isolate() -> bool:
    """Whether a machine's namespaces and its disk can be made here."""
    mount = "mkdir -p a b c d && mount -t overlay overlay -o lowerdir=a,upperdir=b,workdir=c d"
    with TemporaryDirectory() as folder:
        tried = subprocess.run(
            ["unshare", "-m", "-p", "-n", "-u", "-i", "--fork", "bash", "-c", mount],
            cwd=folder,
            capture_output=True,
            check=False,
        )
    return tried.returncode == 0


class World:
    """The simulated AWS and its SkyPilot.

    Attributes:
        home: the HOME of everything that runs in this world.
        market: its prices, for tests to change.
        environment: variables that lead boto3 and SkyPilot here and nowhere else.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self._folder = folder
        self._ports = KeptPorts()
        self._aws: subprocess.Popen[bytes] | None = None
        self._api: subprocess.Popen[bytes] | None = None
        self.market = Market(folder / "prices.json")
        self.open_market()
        write_catalog(self.home, first_prices())
        self.environment: Mapping[str, str] = {
            "HOME": str(self.home),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports.aws}",
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_DEFAULT_REGION": "eu-north-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(self._ports.api),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            # A client that finds no server must say so; it would start one that nobody ends.
            "SKYPILOT_DISABLE_LOCAL_API_SERVER": "1",
        }

    def process_environment(self) -> dict[str, str]:
        """A whole environment for a process in this world."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        inherited = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        return inherited | {"PATH": programs, **self.environment}

    def start_aws(self) -> None:
        """Serve the simulated AWS."""
        server = Path(__file__).with_name("moto_server.py")
        command = [moto_python(), server, self._folder, image(), self._ports.aws]
        with (self._folder / "aws.log").open("wb") as log:
            self._aws = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT
            )
        ready = self._folder / "ready"
        self._wait(self._aws, ready.exists, SERVE_S, "aws.log")

    def start_api_server(self) -> None:
        """Serve SkyPilot's API; it keeps what it knows in HOME over a restart."""
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        serve = ["sky", "api", "start", "--foreground", "--port", str(self._ports.api)]
        environment = self.process_environment()
        del environment["SKYPILOT_DISABLE_LOCAL_API_SERVER"]
        program = shutil.which(serve[0], path=environment["PATH"])
        with (self._folder / "api-server.log").open("ab") as log:
            self._api = subprocess.Popen(
                [*apart, str(program), *serve[1:]],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait(self._api, self._api_is_healthy, API_SERVER_S, "api-server.log")

    def stop_api_server(self) -> None:
        """Kill the API server and all of its workers, in the middle of whatever they do."""
        if self._api is None:
            return
        _kill(self._api)
        until = time.monotonic() + END_S
        while self._api_listens():  # the namespace empties a little after its first process
            if time.monotonic() > until:
                raise RuntimeError("the API server did not end")
            time.sleep(0.05)
        self._api = None

    def enable_aws(self) -> None:
        """Let SkyPilot find its credentials."""
        done = subprocess.run(
            ["sky", "check", "aws"],
            env=self.process_environment(),
            capture_output=True,
            text=True,
            timeout=API_SERVER_S,
            check=False,
        )
        if "AWS: enabled" not in done.stdout:
            raise RuntimeError(f"sky check aws: {done.stdout}{done.stderr}")

    def stop(self) -> None:
        """End everything."""
        self.stop_api_server()
        if self._aws is not None and self._aws.poll() is None:
            self._aws.send_signal(signal.SIGTERM)
            try:
                self._aws.wait(timeout=30)
            except subprocess.TimeoutExpired:
                _kill(self._aws)
        self._aws = None
        self._ports.close()

    def ec2(self, region: str) -> Any:
        """A client of the simulated EC2."""
        import boto3

        return boto3.client(
            "ec2",
            region_name=region,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="simulated",
            aws_secret_access_key="simulated",
        )

    def instances(self, *, stopped: bool = False) -> list[dict[str, Any]]:
        """Every instance of every region that runs, or that is stopped, as EC2 describes it."""
        wanted = ["stopping", "stopped"] if stopped else ["pending", "running"]
        states = [{"Name": "instance-state-name", "Values": wanted}]
        return [
            instance
            for region in ZONES
            for reservation in self.ec2(region).describe_instances(Filters=states)["Reservations"]
            for instance in reservation["Instances"]
        ]

    def reclaim(self, instance: Mapping[str, Any]) -> None:
        """Take an instance away without telling anybody."""
        region = instance["Placement"]["AvailabilityZone"][:-1]
        self.ec2(region).terminate_instances(InstanceIds=[instance["InstanceId"]])

    def freeze(self, instance: Mapping[str, Any]) -> None:
        """Let everything in an instance stand still, while EC2 goes on to call it running."""
        name = f"{instance['InstanceId']}\n"
        for process in Path("/proc").iterdir():
            with suppress(OSError, ValueError):  # it has just ended, or is no process
                if (process / "root/etc/hostname").read_text() == name:
                    os.kill(int(process.name), signal.SIGSTOP)

    def open_market(self) -> None:
        """The opening prices, and capacity everywhere."""
        self.market.write(first_prices())
        self.set_full({})

    def set_full(self, places: Mapping[str, list[str]]) -> None:
        """Regions or zone names -> the instance types of which there are none left.

        A type with ":spot" behind it is short on spot only.
        """
        (self._folder / "capacity.json").write_text(json.dumps(places))

    def events(self) -> list[str]:
        """What the simulated AWS logged, without the times."""
        lines = (self._folder / "events.log").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines]

    def booted(self) -> list[str]:
        """The ids of all instances that ever came up, in order."""
        return [event.split()[1] for event in self.events() if event.startswith("BOOTED")]

    def logs(self) -> str:
        """The end of every log, for a failed test."""
        paths = [*self._folder.glob("*.log"), *self._folder.glob("home/.sky/api_server/*.log")]
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in paths)

    def _api_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._ports.api)) == 0

    def _api_is_healthy(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self._ports.api}/api/health", timeout=5) as answer:
                return bool(json.load(answer)["status"] == "healthy")
        except (OSError, ValueError):
            return False

    def _wait(self, process: subprocess.Popen[bytes], up: Any, seconds: float, log: str) -> None:
        until = time.monotonic() + seconds
        while not up():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{log}: {(self._folder / log).read_text()[-3000:]}")
            time.sleep(0.1)


@contextmanager
def running_world(folder: Path, config: str = "") -> Iterator[World]:
    """A world that is up, and gone afterwards.

    Args:
        config: of SkyPilot, as YAML.
    """
    world = World(folder)
    if config:
        (world.home / ".sky").mkdir(exist_ok=True)
        (world.home / ".sky" / "config.yaml").write_text(config, encoding="utf-8")
    try:
        world.start_aws()
        world.start_api_server()
        world.enable_aws()
        yield world
    finally:
        world.stop()


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is None:
        process.kill()
        process.wait()
