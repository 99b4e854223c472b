"""What runs replicas, seen from the loop.

The loop is: `submit` (returns at once), `observe` on every tick, `terminate`. A cluster's name is
derived before the call, so that a retry after a crash meets the same cluster; every method is
safe to repeat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from arbiter.domain import Offer
from arbiter.errors import LaunchError, LaunchRejected
from arbiter.money import Price


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One launch, complete.

    Attributes:
        cluster: derived name; unique for ever within this arbiter.
        owner: identity of this arbiter's database; goes on every machine as a tag, so that two
            arbiters on one account never touch each other's.
        offer: exactly where and what; the executor pins it and never chooses by itself.
        price: the quoted price per hour.
        task: the rendered SkyPilot task as YAML text. It holds no secret values.
        secrets: name -> value, handed over in memory, never written to a file that stays.
        port: the port on which the server listens.
        model: the name under which the server must list its model.
        tags: the service's tags.
    """

    cluster: str
    owner: str
    service: str
    offer: Offer
    price: Price | None
    task: str
    port: int
    model: str
    secrets: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Phase(StrEnum):
    """What the executor knows of a cluster."""

    PENDING = "pending"  # asked for, not up yet
    UP = "up"  # the machine runs; whether the server answers is not the executor's word
    PARKED = "parked"  # stopped, its disk kept; with an error where it refused to start
    FAILED = "failed"  # the launch ended in an error; nothing may be left running
    GONE = "gone"  # it was up and is not there any more


@dataclass(frozen=True, slots=True)
class Notice:
    """A provider's word that it takes a machine away.

    Attributes:
        kind: in the provider's words ("terminate", "rebalance", "preempted", "Preempt").
        given_at: when it was first seen on the machine; None where that is not known.
        takes_at: when the machine goes; None where the provider names no instant.
    """

    kind: str
    given_at: datetime | None = None
    takes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of one cluster.

    Attributes:
        request_id: the executor's own handle of the launch, or None.
        endpoint: base URL, once known.
        region, zone: where it really runs, read back; None until known.
        error: why the launch failed, with the kind that steers the retry; only with FAILED, and
            with PARKED of one that was to be started.
        progress: a short note while pending, for people.
        price: what it really costs an hour, read back; None where the executor cannot tell.
        notice: that it will be taken away, where the executor can tell.
    """

    cluster: str
    phase: Phase
    request_id: str | None = None
    endpoint: str | None = None
    region: str | None = None
    zone: str | None = None
    error: LaunchError | None = None
    progress: str = ""
    price: Price | None = None
    notice: Notice | None = None


_NAME = re.compile(r"arb-([0-9a-f]{8})-.+")


def is_foreign(cluster: str, owner: str | None) -> bool:
    """Whether what stands under a name of ours carries another owner's tag.

    Args:
        owner: the tag that was read; None, where none is known, is nobody else's.
    """
    named = _NAME.fullmatch(cluster)
    return named is not None and bool(owner) and owner != named[1]


def taken_name(cluster: str) -> LaunchRejected:
    """The error of a launch under a name that somebody else's cluster has."""
    return LaunchRejected(
        f"somebody else's cluster is called {cluster}", "it is left alone; another name is taken"
    )


@runtime_checkable
class Executor(Protocol):
    """Runs replicas. Implementations keep no state that a crash of arbiter could lose."""

    name: str

    def submit(self, spec: LaunchSpec) -> str:
        """Ask for a cluster and return the request id at once.

        Asking again for a cluster that exists, or is on its way, returns the id of the first
        request and launches nothing. One that is parked is started, with this spec's task.

        Raises:
            LaunchError: the request was refused on the spot; nothing was started.
            ArbiterError: the executor cannot be reached; whether it started is not known, and
                `observe` will tell.
        """
        ...

    def observe(self, clusters: Sequence[str]) -> Mapping[str, Sighting]:
        """What is seen of these clusters. A name that was never submitted is absent.

        Raises:
            ArbiterError: the executor cannot be reached. Nothing may be concluded from that.
        """
        ...

    def can_park(self, offer: Offer) -> str | None:
        """Why a machine on this offer cannot be stopped and started again; None: it can."""
        ...

    def park(self, cluster: str) -> None:
        """Stop a cluster and keep its disk; return when it is stopped.

        A cluster that is stopped already, or does not exist, is success: `observe` tells which.

        Raises:
            ArbiterError: it could not be stopped; try again, or end it.
        """
        ...

    def terminate(self, cluster: str) -> None:
        """End a cluster, also one that is half made, parked or still being launched.

        Returns when the executor says it is gone; a cluster that does not exist is success, and
        so is one that another owner has under this name: it is left alone.

        Raises:
            ArbiterError: it could not be ended; try again.
        """
        ...

    def inventory(self, owner: str) -> Sequence[str]:
        """Names of all clusters of this owner that may cost money, known to the journal or not."""
        ...
