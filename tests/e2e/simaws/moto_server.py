"""moto's AWS on loopback, whose instances are machines that one can log in to.

Runs in an environment of its own, that of `image.moto_python`:

    python moto_server.py FOLDER IMAGE PORT

FOLDER holds prices.json (see `simaws.market`) and, where a place is to be full, capacity.json:
{"eu-north-1 or eu-north-1a": ["g6.xlarge", "g5.xlarge:spot"]}. Written to it: events.log and, once
it serves, ready.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from simaws.machine import Machine
from simaws.market import ZONES, Market, products, spot_history

FOLDER = Path(sys.argv[1])
IMAGE = Path(sys.argv[2])
PORT = int(sys.argv[3])
SERVER_PORTS = (8000,)
AMIS = ("ami-0000000000000c000", "ami-0000000000000a000", "ami-0000000000000b000")
KEY = re.compile(r"ssh-(?:rsa|ed25519) [A-Za-z0-9+/=]+")


def describe_amis() -> None:
    """Tell moto of the images that the catalog names; it reads the list when it is imported."""
    one = {
        "state": "available",
        "public": True,
        "owner_id": "801119661308",
        "image_location": "simulated",
        "image_type": "machine",
        "architecture": "x86_64",
        "platform": None,
        "description": "simulated",
        "root_device_type": "ebs",
        "root_device_name": "/dev/sda1",
        "virtualization_type": "hvm",
        "hypervisor": "xen",
        "sriov": "simple",
    }
    path = FOLDER / "amis.json"
    path.write_text(json.dumps([one | {"ami_id": ami, "name": ami} for ami in AMIS]))
    os.environ["MOTO_AMIS_PATH"] = str(path)
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    os.environ["MOTO_PORT"] = str(PORT)


describe_amis()

import moto.ec2.models.elastic_network_interfaces as interfaces  # noqa: E402
import moto.ec2.models.instances as instances  # noqa: E402
from moto.ec2.exceptions import EC2ClientError  # noqa: E402
from moto.ec2.models import availability_zones_and_regions as geography  # noqa: E402
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server  # noqa: E402

MACHINES: dict[str, Machine] = {}
EVENTS = (FOLDER / "events.log").open("a", buffering=1)


def log(*words: object) -> None:
    """One line of what happened, with the time."""
    print(time.strftime("%H:%M:%S"), *words, file=EVENTS)


class Addresses:
    """Loopback addresses 127.0.N.1, .2, ...; N is nobody else's as long as this program lives."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._per_request = threading.local()
        for subnet in range(10, 250):
            path = f"/tmp/arbiter-simaws-{subnet}.lock"
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._lock)
                continue
            self._subnet = subnet
            return
        raise RuntimeError("no free loopback subnet")

    def renew(self) -> None:
        """What asks from here on, in this request, is another instance."""
        self._per_request.address = None

    def current(self, *_args: object, **_options: object) -> str:
        """The one address of the instance of this request, public and private."""
        if getattr(self._per_request, "address", None) is None:
            self._per_request.address = f"127.0.{self._subnet}.{next(self._numbers)}"
        address: str = self._per_request.address
        return address


ADDRESSES = Addresses()


def give_loopback_addresses() -> None:
    """Every network interface gets a loopback address, and goes when its instance goes."""
    original = interfaces.NetworkInterface.__init__

    @functools.wraps(original)
    def made(
        self: Any, backend: Any, subnet: Any, _private: Any, *args: Any, **options: Any
    ) -> None:
        original(self, backend, subnet, ADDRESSES.current(), *args, **options)
        self.public_ip_auto_assign = self.delete_on_termination = True
        self.public_ip = ADDRESSES.current()

    interfaces.random_public_ip = ADDRESSES.current
    interfaces.NetworkInterface.__init__ = made


def zone_asked_for(backend: Any, request: dict[str, Any]) -> str:
    """The zone's name, which stands in the request or follows from its subnet."""
    if request.get("placement"):
        return str(request["placement"])
    if request.get("nics"):
        return str(backend.get_subnet(request["nics"][0]["SubnetId"]).availability_zone)
    return str(backend.region_name)


def refuse_where_full(region: str, zone: str, instance_type: str, market: str) -> None:
    """EC2's own error where capacity.json says that there is no capacity."""
    path = FOLDER / "capacity.json"
    full = json.loads(path.read_text()) if path.exists() else {}
    asked = {instance_type, f"{instance_type}:{market}"}
    if any(asked.intersection(full.get(place, ())) for place in (region, zone)):
        log("FULL", zone, instance_type)
        raise EC2ClientError(
            "InsufficientInstanceCapacity",
            f"We currently do not have sufficient {instance_type} capacity in the Availability "
            f"Zone you requested ({zone}).",
        )


def boot_machines() -> None:
    """RunInstances boots a machine per instance."""
    original = instances.InstanceBackend.run_instances

    @functools.wraps(original)
    def run(
        self: Any, image_id: str, count: int, user_data: Any, groups: Any, **request: Any
    ) -> Any:
        zone, kind = zone_asked_for(self, request), str(request.get("instance_type"))
        market = "spot" if request.get("instance_market_options") else "on_demand"
        log("RUN", zone, kind, market)
        refuse_where_full(self.region_name, zone, kind, market)
        if count != 1:
            raise EC2ClientError("InvalidParameterValue", "one instance at a time here")
        ADDRESSES.renew()
        reservation = original(self, image_id, count, user_data, groups, **request)
        for instance in reservation.instances:
            if not instance.security_groups:
                named = (request.get("nics") or [{}])[0].get("Groups", [])
                instance.security_groups = [self.get_security_group_from_id(g) for g in named]
            boot(instance, user_data)
        return reservation

    instances.InstanceBackend.run_instances = run


def boot(instance: Any, user_data: Any) -> None:
    """The machine of one instance."""
    text = base64.b64decode(str(user_data or "")).decode(errors="replace")
    MACHINES[instance.id] = Machine(
        name=instance.id,
        folder=FOLDER / "instances" / instance.id,
        image=IMAGE,
        address=instance.public_ip,
        keys=KEY.findall(text),
        ports=SERVER_PORTS,
        allowed=functools.partial(lets_in, instance),
    )
    log("BOOTED", instance.id, instance.public_ip)


def lets_in(instance: Any, port: int) -> bool:
    """Whether a security group of the instance has a rule for the port."""
    return any(
        rule.from_port is None
        or int(rule.from_port) == -1
        or int(rule.from_port) <= port <= int(rule.to_port)
        for group in instance.security_groups
        for rule in group.ingress_rules
        if rule.ip_range
    )


def power_machines() -> None:
    """Machines follow their instances: a stopped one keeps its disk, and starts elsewhere."""
    starting, stopping = instances.Instance.start, instances.Instance.stop
    ending = instances.Instance.terminate

    @functools.wraps(starting)
    def start(self: Any) -> Any:
        if self.id in MACHINES and self._state.name == "stopped":
            refuse_where_full(
                self.region_name, self._placement.zone, self.instance_type, "on_demand"
            )
            ADDRESSES.renew()
            answer = starting(self)
            MACHINES[self.id].start(self.public_ip)
            log("STARTED", self.id, self.public_ip)
            return answer
        return starting(self)

    @functools.wraps(stopping)
    def stop(self: Any) -> Any:
        answer = stopping(self)
        if self.id in MACHINES:
            MACHINES[self.id].stop()
            log("STOPPED", self.id)
        return answer

    @functools.wraps(ending)
    def terminate(self: Any) -> Any:
        answer = ending(self)
        machine = MACHINES.pop(self.id, None)
        if machine is not None:
            machine.end()
            log("ENDED", self.id)
        return answer

    instances.Instance.start, instances.Instance.stop = start, stop
    instances.Instance.terminate = terminate


class Priced:
    """WSGI: answers the questions about prices itself, and passes the others on."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._market = Market(FOLDER / "prices.json")

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        answer = self._answer(environ, body)
        if answer is None:
            passed_on: Iterable[bytes] = self._application(environ, start)
            return passed_on
        kind, text = answer
        start("200 OK", [("Content-Type", kind), ("Content-Length", str(len(text.encode())))])
        return [text.encode()]

    def _answer(self, environ: dict[str, Any], body: bytes) -> tuple[str, str] | None:
        if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".GetProducts"):
            filters = json.loads(body).get("Filters", [])
            return "application/x-amz-json-1.1", products(self._market, filters)
        if b"Action=DescribeSpotPriceHistory" not in body:
            return None
        form = parse_qs(body.decode())
        types = [value[0] for key, value in form.items() if key.startswith("InstanceType.")]
        scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
        region = scope[2]
        names = {zone.zone_id: zone.name for zone in geography.RegionsAndZonesBackend.zones[region]}
        return "text/xml", spot_history(self._market, region, types, names)


def furnish() -> None:
    """What every real account has: a way to the internet, and SkyPilot's role."""
    import boto3

    options: dict[str, Any] = {
        "endpoint_url": f"http://127.0.0.1:{PORT}",
        "aws_access_key_id": "simulated",
        "aws_secret_access_key": "simulated",
    }
    for region in ZONES:
        ec2: Any = boto3.client("ec2", region_name=region, **options)
        default = [{"Name": "is-default", "Values": ["true"]}]
        vpc = ec2.describe_vpcs(Filters=default)["Vpcs"][0]["VpcId"]
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        main = [
            {"Name": "vpc-id", "Values": [vpc]},
            {"Name": "association.main", "Values": ["true"]},
        ]
        table = ec2.describe_route_tables(Filters=main)["RouteTables"][0]["RouteTableId"]
        ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    iam = boto3.client("iam", region_name="us-east-1", **options)
    role = "skypilot-v1"
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName=role)
    iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)


def main() -> None:
    """Serve until SIGTERM, then power everything off."""
    give_loopback_addresses()
    boot_machines()
    power_machines()
    application = Priced(DomainDispatcherApplication(create_backend_app))
    server = make_server(
        "127.0.0.1", PORT, application, threaded=True, request_handler=MotoRequestHandler
    )
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    furnish()
    (FOLDER / "ready").touch()
    log("READY", PORT)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    for machine in MACHINES.values():
        machine.end()


if __name__ == "__main__":
    main()
