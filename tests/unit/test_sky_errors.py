"""SkyPilot's errors, as its own classes raise them."""

from __future__ import annotations

import ast
import builtins
from importlib.util import find_spec
from pathlib import Path

import pytest

from arbiter.errors import ArbiterError, LaunchError, LaunchRejected, NoCapacity, QuotaExceeded
from arbiter.executors import sky_errors
from arbiter.executors.sky_errors import LONGEST, launch_error, one_line, unreachable


# Stand-ins by name and bases, as the mapping sees them: importing SkyPilot takes seconds. That its
# own classes are called so is tested where SkyPilot runs.
class ResourcesUnavailableError(Exception):
    def __init__(self, message: str, history: tuple[Exception, ...] = ()) -> None:
        super().__init__(message)
        self.failover_history = history


class ResourcesMismatchError(Exception):
    pass


class ClusterDoesNotExist(ValueError):
    pass


class RequestCancelled(Exception):
    pass


class CommandError(Exception):
    pass


class ApiServerConnectionError(RuntimeError):
    pass


class ApiServerAuthenticationError(RuntimeError):
    pass


class APIVersionMismatchError(RuntimeError):
    pass


NOWHERE = "Failed to acquire resources in eu-north-1c for g6.xlarge."


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ResourcesUnavailableError(NOWHERE, (Exception("aws/eu-north-1c"),)), NoCapacity),
        (ResourcesUnavailableError(NOWHERE), NoCapacity),
        (ResourcesUnavailableError(NOWHERE, (Exception("VcpuLimitExceeded"),)), QuotaExceeded),
        (ResourcesUnavailableError(NOWHERE, (Exception("MaxSpotInstanceCountExceeded"),)),
         QuotaExceeded),
        (ResourcesUnavailableError("Quota 'GPUS' exceeded"), QuotaExceeded),
        (ResourcesUnavailableError("Catalog does not contain any instances satisfying the request"),
         LaunchRejected),
        (ResourcesMismatchError("Requested resources do not match"), LaunchRejected),
        (ValueError("Invalid region 'eu-nowhere-9'"), LaunchRejected),
        (ClusterDoesNotExist("gone"), LaunchRejected),
        (CommandError("setup failed with return code 1"), LaunchError),
        (RequestCancelled("by another process"), LaunchError),
        (RuntimeError("something else"), LaunchError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)  # fmt: skip
def test_the_kind_steers_what_happens_next(error: Exception, kind: type[LaunchError]) -> None:
    assert type(launch_error(error)) is kind
    assert unreachable(error) is None


# What the clouds themselves say, as their APIs and their users' reports have it.
QUOTA = (
    "An error occurred (VcpuLimitExceeded) when calling the RunInstances operation: You have "
    "requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket",
    "An error occurred (MaxSpotInstanceCountExceeded): Max spot instance count exceeded",
    "An error occurred (InstanceLimitExceeded): You have requested more instances than allowed",
    "An error occurred (PendingVerification): Your request for accessing resources is validated",
    "Found no quota for g6.xlarge (spot) in region eu-north-1 in AWS. To request quotas, check",
    "QUOTA_EXCEEDED: Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.",
    "Quota 'PREEMPTIBLE_NVIDIA_L4_GPUS' exceeded.  Limit: 1.0 in region europe-west4.",
    "(QuotaExceeded) Operation could not be completed as it results in exceeding approved "
    "StandardNCADSA100v4Family Cores quota. Location: westeurope, Current Limit: 0",
    "(OperationNotAllowed) Operation results in exceeding approved LowPriorityCores quota",
    "global/quota-exceeded: Quota exceeded.",
)
CAPACITY = (
    "An error occurred (InsufficientInstanceCapacity): We currently do not have sufficient "
    "g6.xlarge capacity in the Availability Zone you requested (eu-north-1c).",
    "An error occurred (UnfulfillableCapacity): Unable to fulfill capacity due to your request",
    "ZONE_RESOURCE_POOL_EXHAUSTED: The zone 'projects/p/zones/europe-west4-a' does not have "
    "enough resources available to fulfill the request.",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS: A n1 VM instance is unavailable (stockout)",
    "(SkuNotAvailable) The requested VM size 'Standard_NC24ads_A100_v4' is currently not available",
    "(AllocationFailed) Allocation failed. We do not have sufficient capacity for that size",
    "(ZonalAllocationFailed) Allocation failed. There is not sufficient capacity in zone 1",
    "There are no longer any instances available with the requested specifications. Please refresh",
    "instance-operations/launch/insufficient-capacity: Not enough capacity to launch.",
)
THROTTLED = (
    "An error occurred (RequestLimitExceeded) when calling the RunInstances operation "
    "(reached max retries: 4): Request limit exceeded.",
    "rateLimitExceeded: Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'",
    "(TooManyRequests) The server rejected the request because too many have been received",
    "Your API requests are being rate limited.",
)
UNPAID = (
    "You do not have enough funds: insufficient balance. Please add funds to your account",
    "global/account-inactive: Your account is inactive.",
    "Your account has reached its spend limit",
)


@pytest.mark.parametrize("raised", [ResourcesUnavailableError, CommandError])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, QuotaExceeded) for text in QUOTA),
        *((text, NoCapacity) for text in CAPACITY),
        *((text, LaunchError) for text in THROTTLED),
        *((text, QuotaExceeded) for text in UNPAID),
    ],
)
def test_quota_is_told_from_capacity_in_the_words_of_each_cloud(
    raised: type[Exception], text: str, kind: type[LaunchError]
) -> None:
    assert type(launch_error(raised(text))) is kind
    if raised is ResourcesUnavailableError:  # where SkyPilot hands the cloud's words over
        wrapped = ResourcesUnavailableError(NOWHERE, (Exception(text),))
        assert type(launch_error(wrapped)) is kind


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ApiServerConnectionError("http://127.0.0.1:46580"), "sky api start"),
        (ApiServerAuthenticationError("http://elsewhere"), "sky api login"),
        (APIVersionMismatchError("the server is older"), "SkyPilot 0.14.1"),
        (ConnectionError("refused"), "sky api start"),
        (ConnectionResetError(104, "reset"), "sky api start"),
        (TimeoutError("timed out"), "sky api start"),
        (
            RuntimeError("No SkyPilot API server endpoint is configured, and starting one is off"),
            "sky api start",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_silent_api_server_is_no_failed_launch(error: Exception, hint: str) -> None:
    found = unreachable(error)
    assert isinstance(found, ArbiterError)
    assert not isinstance(found, LaunchError)
    assert hint in str(found)


def test_a_message_is_one_plain_line() -> None:
    coloured = ValueError("\n  \x1b[31mNo such region.\x1b[0m\nTry one of these:\n- a\n- b")
    assert one_line(coloured) == "No such region"
    assert len(one_line(ValueError("x" * 10_000))) == LONGEST
    assert one_line(ValueError("")) == "no reason given"


def test_skypilot_has_classes_of_these_names() -> None:
    found = find_spec("sky")
    if found is None or found.origin is None:
        pytest.skip("needs SkyPilot: pip install 'arbiter[skypilot]'")
    source = Path(found.origin).with_name("exceptions.py").read_text(encoding="utf-8")
    theirs = {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    stand_ins = {
        ResourcesUnavailableError,
        ResourcesMismatchError,
        ClusterDoesNotExist,
        RequestCancelled,
        CommandError,
        ApiServerConnectionError,
        ApiServerAuthenticationError,
        APIVersionMismatchError,
    }
    assert {one.__name__ for one in stand_ins} <= theirs
    of_python = {name for name in sky_errors.NAMED if hasattr(builtins, name)}
    assert sky_errors.NAMED - of_python - sky_errors.OF_REQUESTS <= theirs
