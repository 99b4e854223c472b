"""The machines that AWS has running under our tag, region by region, by boto3."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from arbiter.clock import SystemClock
from arbiter.errors import BadAnswer, MissingCredentials
from arbiter.inventory import CLUSTER_TAG, OWNER_TAG, Machine
from arbiter.provider import ProviderSettings
from arbiter_providers.aws_account import Account, call_once, paged, session

CHARGED = ["pending", "running", "stopping", "stopped"]
"""States in which a machine, or at least its disk, is paid for."""

GONE = "InvalidInstanceID.NotFound"


class AwsInventory:
    """EC2's machines. Needs ec2:DescribeInstances, and ec2:TerminateInstances to end one."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def machines(self, owner: str, regions: Collection[str]) -> Sequence[Machine]:
        """The owner's machines in these regions."""
        account = self._account()
        filters = [
            {"Name": f"tag:{OWNER_TAG}", "Values": [owner]},
            {"Name": "instance-state-name", "Values": CHARGED},
        ]
        return [
            _machine(region, found)
            for region in sorted(regions)
            for body in paged(
                account.client("ec2", region).describe_instances, region, Filters=filters
            )
            for reservation in body.get("Reservations") or ()
            for found in reservation.get("Instances") or ()
        ]

    def end(self, machine: Machine) -> None:
        """Terminate it."""
        ec2 = self._account().client("ec2", machine.region)
        try:
            call_once(ec2.terminate_instances, machine.region, InstanceIds=[machine.id])
        except BadAnswer as error:
            if GONE not in error.message:
                raise

    def _account(self) -> Account:
        made = session(self._settings)
        if made is None:
            raise MissingCredentials("aws: no credentials to list machines with", "aws configure")
        return Account(made, self._settings, SystemClock())


def _machine(region: str, found: Mapping[str, Any]) -> Machine:
    tags = {one["Key"]: one["Value"] for one in found.get("Tags") or ()}
    return Machine(
        provider="aws",
        id=found["InstanceId"],
        region=region,
        name=tags.get("Name", ""),
        zone=(found.get("Placement") or {}).get("AvailabilityZone"),
        owner=tags.get(OWNER_TAG),
        cluster=tags.get(CLUSTER_TAG),
    )
