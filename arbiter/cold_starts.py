"""How long launches take, per model and place, and how far those that go on have come. Pure.

A cold start has two parts. `machine`: from the launch to a machine that is up, with its image and
its software. `server`: from there to the first answer: weights, compilation, a first completion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from arbiter.domain import Offer, Purchase, Replica, ReplicaState

NEWEST = 20
"""Launches in one place that a measurement rests on at most: prices, images and clouds change."""

Key = tuple[str, str, str, Purchase]
"""Profile, provider, region, purchase."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What launches of one profile in one place have taken.

    Attributes:
        profile, provider, region: "" where it stands for several.
        purchase: None where it stands for both.
        machine_s, server_s: medians, seconds.
        machine_slow_s: the slowest machine among them, seconds.
        count: launches that it rests on; at least 1.
    """

    profile: str
    provider: str
    region: str
    purchase: Purchase | None
    machine_s: float
    server_s: float
    machine_slow_s: float
    count: int

    @property
    def total_s(self) -> float:
        """Seconds from a launch to the first answer."""
        return self.machine_s + self.server_s


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """Everything that was measured, a row per profile, region and purchase."""

    measured: tuple[ColdStart, ...] = ()

    def of(self, profile: str, offer: Offer) -> ColdStart | None:
        """What is to be expected of a profile at an offer; None where nothing is known of it.

        From near to far: the region bought the same way, the region, the provider, anywhere.
        """
        own = [one for one in self.measured if one.profile == profile]
        there = [one for one in own if one.provider == offer.provider]
        region = [one for one in there if one.region == offer.region]
        same = [one for one in region if one.purchase is offer.purchase]
        return next((joined(rows) for rows in (same, region, there, own) if rows), None)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a launch has come.

    Attributes:
        phase: "machine" or "server".
        elapsed_s: seconds since the phase began.
        usual_s: seconds that it usually takes there; None where nothing is measured.
    """

    phase: str
    elapsed_s: float
    usual_s: float | None = None

    def __str__(self) -> str:
        usual = "" if self.usual_s is None else f" of usually {self.usual_s:.0f} s"
        return f"{self.phase} for {self.elapsed_s:.0f} s{usual}"


def measured(launches: Iterable[tuple[Key, float, float]]) -> ColdStarts:
    """The measurements of launches that have answered.

    Args:
        launches: where, machine and server seconds of each, newest first.
    """
    found: dict[Key, list[tuple[float, float]]] = {}
    for key, machine_s, server_s in launches:
        kept = found.setdefault(key, [])
        if len(kept) < NEWEST:
            kept.append((machine_s, server_s))
    return ColdStarts(tuple(_row(key, found[key]) for key in sorted(found)))


def joined(rows: Sequence[ColdStart]) -> ColdStart:
    """Several measurements as one: means weighted by their launches."""
    if len(rows) == 1:
        return rows[0]
    count = sum(one.count for one in rows)

    def common(name: str) -> str:
        values = {getattr(one, name) for one in rows}
        return str(values.pop()) if len(values) == 1 else ""

    purchases = {one.purchase for one in rows}
    return ColdStart(
        common("profile"),
        common("provider"),
        common("region"),
        purchases.pop() if len(purchases) == 1 else None,
        sum(one.machine_s * one.count for one in rows) / count,
        sum(one.server_s * one.count for one in rows) / count,
        max(one.machine_slow_s for one in rows),
        count,
    )


def progress(
    replica: Replica, profile: str, known: ColdStarts, starts: ColdStarts, now: datetime
) -> Progress | None:
    """How far a replica's launch has come; None of one that does not launch any more.

    Args:
        starts: what was measured of parked machines that were started, which is less.
    """
    usual = (known if replica.parked_at is None else starts).of(profile, replica.offer)
    if replica.state is ReplicaState.LAUNCHING:
        elapsed_s = max(0.0, (now - replica.launched_at).total_seconds())
        return Progress("machine", elapsed_s, usual.machine_s if usual else None)
    if replica.state is ReplicaState.STARTING:
        since = replica.up_at or replica.changed_at
        elapsed_s = max(0.0, (now - since).total_seconds())
        return Progress("server", elapsed_s, usual.server_s if usual else None)
    return None


def _row(key: Key, launches: Sequence[tuple[float, float]]) -> ColdStart:
    profile, provider, region, purchase = key
    machines = [machine_s for machine_s, _ in launches]
    servers = [server_s for _, server_s in launches]
    count = len(launches)
    return ColdStart(
        profile, provider, region, purchase, median(machines), median(servers), max(machines), count
    )
