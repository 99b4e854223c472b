"""What a sighting and a health check make of a replica. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from arbiter.domain import ActionState, Purchase, Replica, ReplicaState
from arbiter.errors import LaunchError, LaunchRejected, NoCapacity
from arbiter.executors.base import Notice, Phase, Sighting
from arbiter.health import Health
from arbiter.notices import leaves_at

PRICE_TOLERANCE = Decimal("0.05")
"""Share by which the price that was read back may differ from the quote without a word."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is borne of a replica.

    Attributes:
        launch: how long a launch may take to bring a machine; None is for ever.
        cap: USD an hour that it may really cost.
        leave: so long before its provider takes it, it is given no more requests.
    """

    launch: timedelta | None = None
    cap: Decimal | None = None
    leave: timedelta = timedelta(seconds=15)


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Seen:
    """A change that was seen.

    Attributes:
        replica: as it is now.
        kind, sentence: of the event to journal; None where only details changed.
        closes_launch: the outcome of the open launch, if it has one now.
        lost: it was running and is gone without our order.
        error: its launch failed.
        parked: its start was refused: it stays parked.
        within_s: of a loss or a notice: its cause was at most so many seconds ago, where known.
    """

    replica: Replica
    kind: str | None = None
    sentence: str = ""
    closes_launch: ActionState | None = None
    lost: bool = False
    error: LaunchError | None = None
    parked: bool = False
    within_s: float | None = None


def seen(
    current: Replica,
    sighting: Sighting | None,
    health: Health | None,
    now: datetime,
    limits: Limits = NO_LIMITS,
    unseen_s: float | None = None,
) -> Seen | None:
    """The change, or None where nothing changed.

    Args:
        sighting: None where the executor does not know the cluster.
        health: of a replica whose machine is up; None otherwise.
        unseen_s: seconds since it was last seen well: whatever happened did so within them.
    """
    if current.state is ReplicaState.PARKED:
        return _while_parked(current, sighting, now)
    if sighting is not None and sighting.phase is Phase.PARKED and current.starting:
        error = sighting.error or NoCapacity("it was not started, and no reason is known")
        return Seen(current, error=error, parked=True)
    if sighting is None or sighting.phase in (Phase.GONE, Phase.PARKED):
        return _vanished(current, now, unseen_s)
    if sighting.phase is Phase.FAILED:
        error = sighting.error or NoCapacity("the launch failed without a reason")
        return Seen(current, error=error)
    if sighting.phase is Phase.PENDING:
        return _pending(current, sighting, now, limits)
    return _up(current, sighting, health or Health(False, "not checked"), now, limits, unseen_s)


def glanced(
    current: Replica, health: Health, now: datetime, leave: timedelta, unseen_s: float | None = None
) -> Seen | None:
    """What a health check alone makes of a replica that serves; None without an event.

    Why it does not answer, its executor has to say; see `seen`.
    """
    up = Sighting(current.cluster, Phase.UP)
    change = _up(current, up, health, now, Limits(leave=leave), unseen_s)
    return change if change is not None and change.kind is not None else None


def as_planned(
    current: Replica, now: datetime, *, drained: bool | None, drain_s: float, unhealthy_s: float
) -> Replica:
    """A replica as the planner is to see it, who knows neither gateways nor notices. Pure.

    Args:
        drained: of a draining one: whether it answers nothing any more, or has had its time; None
            where that is not known, and the time since its drain began decides.
    """
    if current.state is ReplicaState.DRAINING and drained is not None:
        began = now - timedelta(seconds=drain_s) if drained else now
        return replace(current, changed_at=began)
    if current.state is ReplicaState.HEALTHY and current.leaving_at is not None:
        silent = now - timedelta(seconds=unhealthy_s)
        note = "its provider takes it away"
        return replace(current, state=ReplicaState.UNHEALTHY, changed_at=silent, note=note)
    return current


def _pending(current: Replica, sighting: Sighting, now: datetime, limits: Limits) -> Seen | None:
    waited = now - current.launched_at
    launching = current.state is ReplicaState.LAUNCHING
    if launching and limits.launch is not None and waited > limits.launch:
        error = NoCapacity(f"no machine came within {limits.launch.total_seconds():.0f} s")
        return Seen(current, error=error)
    return _noted(current, replace(current, note=sighting.progress))


def _while_parked(current: Replica, sighting: Sighting | None, now: datetime) -> Seen | None:
    """It is to be stopped, and there; anything else is not our doing, and is cleared away."""
    if sighting is not None and sighting.phase is Phase.PARKED:
        return None
    there = sighting is not None and sighting.phase in (Phase.PENDING, Phase.UP)
    note = "runs although it was parked" if there else "is gone although it was parked"
    lost = replace(current, state=ReplicaState.LOST, changed_at=now, note=f"it {note}")
    return Seen(lost, "parked_lost", f"{current.cluster} on {current.offer.where} {note}")


def _vanished(current: Replica, now: datetime, unseen_s: float | None) -> Seen:
    if current.state is ReplicaState.DRAINING and current.leaving_at is None:
        ended = replace(current, state=ReplicaState.TERMINATED, changed_at=now, note="gone")
        return Seen(ended, "terminated", f"{current.cluster} was gone before its drain ended")
    if current.state is ReplicaState.LAUNCHING:
        return Seen(current, error=LaunchError("it disappeared while it was being launched"))
    reclaimed = current.offer.purchase is Purchase.SPOT
    kind = "spot_reclaimed" if reclaimed else "lost"
    verb = "was reclaimed" if reclaimed else "was lost"
    lost = replace(current, state=ReplicaState.LOST, changed_at=now, note=verb)
    how = "as announced" if current.leaving_at is not None else f"without notice{_within(unseen_s)}"
    sentence = f"{current.cluster} on {current.offer.where} {verb} {how}"
    return Seen(lost, kind, sentence, ActionState.DONE, lost=True, within_s=unseen_s)


def _up(
    current: Replica,
    sighting: Sighting,
    health: Health,
    now: datetime,
    limits: Limits,
    unseen_s: float | None,
) -> Seen | None:
    located = replace(
        current,
        endpoint=sighting.endpoint or current.endpoint,
        observed_region=sighting.region or current.observed_region,
        observed_zone=sighting.zone or current.observed_zone,
        paid=sighting.price or current.paid,
        up_at=current.up_at or now,
    )
    over = _over_the_cap(located, limits)
    if over is not None:
        return Seen(located, error=over)
    notice = sighting.notice or health.notice
    if notice is not None:
        told = _told(located, notice, now)
        if told is not None:
            return told
    if current.state is ReplicaState.DRAINING:
        return _noted(current, located)
    if _leaves_soon(current, now, limits):
        left = replace(located, state=ReplicaState.DRAINING, changed_at=now)
        sentence = f"{current.cluster} was taken out of traffic before its provider takes it"
        return Seen(left, "drained", sentence)
    return _answering(current, located, health, now, unseen_s)


def _answering(
    current: Replica, located: Replica, health: Health, now: datetime, unseen_s: float | None
) -> Seen | None:
    state = _state(current, health)
    if state is current.state:
        return _priced(current, replace(located, note=health.reason))
    changed = replace(located, state=state, changed_at=now, note=health.reason)
    where = current.offer.where
    if state is ReplicaState.HEALTHY:
        after = (now - current.launched_at).total_seconds()
        first = current.healthy_at is None
        changed = replace(changed, healthy_at=current.healthy_at or now)
        began = "launch" if current.parked_at is None else "start"
        tale = f"answered {after:.0f} s after its {began}" if first else "answers again"
        return Seen(changed, "healthy", f"{current.cluster} on {where} {tale}", ActionState.DONE)
    if state is ReplicaState.UNHEALTHY:
        what = "answers wrongly" if health.answers else "stopped answering"
        kind = "wrong_answer" if health.answers else "unhealthy"
        sentence = f"{current.cluster} on {where} {what}{_within(unseen_s)}: {health.reason}"
        return Seen(changed, kind, sentence, within_s=unseen_s)
    return Seen(changed, "up", f"{current.cluster} on {where} was up, its server is starting")


def _told(located: Replica, notice: Notice, now: datetime) -> Seen | None:
    """The first notice, or an earlier end than the one told before."""
    leaving = leaves_at(notice, now)
    if located.leaving_at is not None and leaving >= located.leaving_at:
        return None
    changed = replace(located, leaving_at=leaving)
    if located.leaving_at is not None:
        return Seen(changed)
    known = "" if notice.given_at is None else f", {_seconds(notice.given_at, now)} s ago"
    sentence = (
        f"{located.cluster} on {located.offer.where} was given notice ({notice.kind}{known}): "
        f"it is taken away at {leaving:%H:%M:%S} UTC, in {_seconds(now, leaving)} s"
    )
    ago = None if notice.given_at is None else max(0.0, (now - notice.given_at).total_seconds())
    return Seen(changed, "notice", sentence, within_s=ago)


def _over_the_cap(located: Replica, limits: Limits) -> LaunchError | None:
    paid = located.paid
    if paid is None or limits.cap is None or paid.currency != "USD" or paid.amount <= limits.cap:
        return None
    return LaunchRejected(f"it really costs {paid} an hour, above the cap of {limits.cap} USD")


def _priced(current: Replica, changed: Replica) -> Seen | None:
    """Details; an event where the price that is really paid is not the quoted one."""
    paid, quoted = changed.paid, changed.price
    new = current.paid is None and paid is not None and quoted is not None
    if new and paid is not None and quoted is not None and paid.currency == quoted.currency:
        off = abs(paid.amount - quoted.amount) > quoted.amount * PRICE_TOLERANCE
        if off:
            sentence = f"{current.cluster} really costs {paid} an hour, it was quoted at {quoted}"
            return Seen(changed, "price_differs", sentence)
    return _noted(current, changed)


def _leaves_soon(current: Replica, now: datetime, limits: Limits) -> bool:
    serving = current.state in (ReplicaState.HEALTHY, ReplicaState.UNHEALTHY)
    return serving and current.leaving_at is not None and current.leaving_at - now <= limits.leave


def _state(current: Replica, health: Health) -> ReplicaState:
    if health.serving:
        return ReplicaState.HEALTHY
    if current.state in (ReplicaState.HEALTHY, ReplicaState.UNHEALTHY):
        return ReplicaState.UNHEALTHY
    return ReplicaState.STARTING


def _within(unseen_s: float | None) -> str:
    return "" if unseen_s is None else f", within {unseen_s:.1f} s"


def _seconds(earlier: datetime, later: datetime) -> int:
    return max(0, round((later - earlier).total_seconds()))


def _noted(current: Replica, changed: Replica) -> Seen | None:
    return None if changed == current else Seen(changed)
