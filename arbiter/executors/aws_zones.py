"""AWS's zone names and ids, as one account has them.

"eu-west-1a" is another building for every account; "euw1-az3" is the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from arbiter.errors import ArbiterError, LaunchRejected

_HINT = "arbiter needs SkyPilot's AWS credentials, with ec2:DescribeAvailabilityZones"


class Zones(Protocol):
    """Zone ids -> zone names of one account."""

    def of(self, region: str) -> Mapping[str, str]:
        """Zone id -> zone name of every zone of a region.

        Raises:
            LaunchRejected: the account may not ask, or has no credentials.
            ArbiterError: AWS cannot be reached.
        """
        ...


AGAIN_S = 300.0
"""Seconds for which a failure stands before AWS is asked again. Credentials and networks are mended
by people, in minutes; a tick comes every few seconds and would wait for AWS each time."""


class AwsZones:
    """Asks DescribeAvailabilityZones, once for each region; the names do not change.

    A failure is remembered too: until `AGAIN_S` have passed it is raised again without asking.

    Args:
        ask, monotonic: for tests.
    """

    def __init__(
        self,
        ask: Callable[[str], Mapping[str, str]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask or _asked
        self._monotonic = monotonic
        self._known: dict[str, Mapping[str, str]] = {}
        self._failed: dict[str, tuple[float, ArbiterError]] = {}

    def of(self, region: str) -> Mapping[str, str]:
        """Zone id -> zone name."""
        if region in self._known:
            return self._known[region]
        now = self._monotonic()
        if region in self._failed and now < self._failed[region][0]:
            error = self._failed[region][1]
            raise type(error)(error.message, error.hint)
        try:
            self._known[region] = self._ask(region)
        except ArbiterError as error:
            self._failed[region] = (self._monotonic() + AGAIN_S, error)
            raise
        self._failed.pop(region, None)
        return self._known[region]


def zone_name(zones: Zones, region: str, zone_id: str) -> str:
    """The account's name of a zone.

    Raises:
        LaunchRejected: the account has no such zone.
        ArbiterError: AWS cannot be reached.
    """
    found = zones.of(region).get(zone_id)
    if found is None:
        raise LaunchRejected(f"the AWS account has no zone {zone_id} in {region}")
    return found


def zone_id(zones: Zones, region: str, name: str) -> str | None:
    """The id of a zone, or None where AWS does not tell."""
    try:
        known = zones.of(region)
    except ArbiterError:
        return None
    return next((found for found, named in known.items() if named == name), None)


def _asked(region: str) -> Mapping[str, str]:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    config = Config(connect_timeout=10, read_timeout=20, retries={"total_max_attempts": 3})
    try:
        ec2 = boto3.client("ec2", region_name=region, config=config)
        answer = ec2.describe_availability_zones()
    except (ClientError, NoCredentialsError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else "none set"
        raise LaunchRejected(f"AWS does not tell its zones in {region} ({code})", _HINT) from error
    except BotoCoreError as error:
        what = type(error).__name__
        raise ArbiterError(f"AWS cannot be asked for its zones in {region} ({what})") from error
    return {zone["ZoneId"]: zone["ZoneName"] for zone in answer["AvailabilityZones"]}
