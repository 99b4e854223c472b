"""SkyPilot's errors as ours. By the names of their classes, so that SkyPilot is not imported."""

from __future__ import annotations

import re
from collections.abc import Iterable

from arbiter.errors import ArbiterError, LaunchError, LaunchRejected, NoCapacity, QuotaExceeded

LONGEST = 300
"""Characters of a foreign message that are passed on."""

_UNREACHABLE = frozenset(
    {
        "ApiServerConnectionError",
        "ApiServerAuthenticationError",
        "APIVersionMismatchError",
        "ConcurrentWorkerExhaustedError",
        "RequestInterruptedError",
        "ServerTemporarilyUnavailableError",
        "ConnectionError",
        "TimeoutError",
    }
)
OF_REQUESTS = frozenset({"ConnectTimeout", "HTTPError", "ReadTimeout", "Timeout"})
"""Errors of the library that SkyPilot talks to its API server with."""

_REJECTED = frozenset(
    {
        "APINotSupportedError",
        "AssertionError",
        "CloudUserIdentityError",
        "ClusterOwnerIdentityMismatchError",
        "InvalidCloudConfigs",
        "InvalidCloudCredentials",
        "InvalidClusterNameError",
        "KeyError",
        "NoCloudAccessError",
        "NotSupportedError",
        "PermissionDeniedError",
        "ProvisionPrechecksError",
        "ResourcesMismatchError",
        "TypeError",
        "UserRequestRejectedByPolicy",
        "ValueError",
    }
)
NAMED = _UNREACHABLE | OF_REQUESTS | _REJECTED
"""Every class that is known here by its name."""

_THROTTLED = re.compile(
    r"request ?limit ?exceeded|throttl|rate ?limit|too ?many ?requests|queries per (minute|second)|"
    r"requests per (minute|second|day)|operation rate|subscriptionrequests",
    re.I,
)
"""A cloud's API was asked too often. GCP calls that a quota, AWS a limit: looked for first."""

_QUOTA = re.compile(
    r"quota|vcpulimitexceeded|limit ?exceeded|instancecountexceeded|max\w*count\w*exceeded|"
    r"exceeding approved|pendingverification|optinrequired",
    re.I,
)
_UNPAID = re.compile(
    r"insufficient (funds|balance|credit)|not enough (funds|balance|credit)|add (more )?funds|"
    r"account[- ]inactive|billing (is )?(not enabled|disabled)|outstanding balance|"
    r"spend(ing)? limit",
    re.I,
)
"""The account has no money there: another zone has none for it either."""

_CAPACITY = re.compile(
    r"insufficient ?\w*capacity|insufficient-capacity|not enough capacity|capacity-not-available|"
    r"resource_pool_exhausted|does not have enough resources|allocationfailed|skunotavailable|"
    r"overconstrained|unfulfillablecapacity|no longer any instances available|"
    r"no instances? (are |is )?(currently )?available|not enough gpus?|stockout",
    re.I,
)
_UNKNOWN = re.compile(r"catalog does not contain|no resource satisfying", re.I)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def unreachable(error: BaseException) -> ArbiterError | None:
    """The error of an API server that gives no answer; None where it gave one."""
    names = _names(error)
    if not names & (_UNREACHABLE | OF_REQUESTS) and not _disabled(error):
        return None
    if "ApiServerAuthenticationError" in names:
        return ArbiterError("SkyPilot's API server wants a login", "sky api login")
    if "APIVersionMismatchError" in names:
        return ArbiterError(
            f"SkyPilot's API server has another version: {one_line(error)}",
            "install SkyPilot 0.14.1 there",
        )
    return ArbiterError(
        f"SkyPilot's API server does not answer ({type(error).__name__})", "sky api start"
    )


def launch_error(error: BaseException) -> LaunchError:
    """What a failed launch means for the next one."""
    names, text = _names(error), one_line(error)
    everything = " ".join([str(error), *map(str, getattr(error, "failover_history", ()))])
    if _THROTTLED.search(everything):
        return LaunchError(f"the cloud's API was asked too often: {text}")
    if _UNPAID.search(everything):
        return QuotaExceeded(f"the account cannot pay there: {text}")
    if "ResourcesUnavailableError" in names:
        if _QUOTA.search(everything):
            return QuotaExceeded(f"the account's quota does not allow it: {text}")
        if _UNKNOWN.search(everything) and not getattr(error, "failover_history", ()):
            return LaunchRejected(f"SkyPilot knows no such machine: {text}", "sky check")
        return NoCapacity("the cloud has none there now")
    if names & _REJECTED:
        return LaunchRejected(f"SkyPilot refused the launch: {text}")
    if "RequestCancelled" in names:
        return LaunchError("the launch was cancelled")
    if _CAPACITY.search(everything):
        return NoCapacity("the cloud has none there now")
    if _QUOTA.search(everything):
        return QuotaExceeded(f"the account's quota does not allow it: {text}")
    return LaunchError(f"the launch broke off: {type(error).__name__}: {text}")


def one_line(error: BaseException) -> str:
    """The first line that says something, without colours."""
    lines = (line.strip() for line in _ANSI.sub("", str(error)).splitlines())
    return _first(lines)[:LONGEST].rstrip(".")


def _first(lines: Iterable[str]) -> str:
    return next((line for line in lines if line), "no reason given")


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(cls.__name__ for cls in type(error).__mro__)


def _disabled(error: BaseException) -> bool:
    return type(error) is RuntimeError and "SkyPilot API server" in str(error)
