"""The options that say what changes a service's number of replicas: of `launch` and `scale`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arbiter.cli.durations import seconds
from arbiter.service_hours import MOST_REPLICAS

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.scaling import Scaling
    from arbiter.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

NO_SCHEDULE = "none"


def scaling_options(command: Command) -> Command:
    """--min, --max and what goes with them."""
    options = (
        click.option(
            "--min", "least", type=click.IntRange(0, MOST_REPLICAS),
            help="Never fewer replicas; 0: none while nobody asks.",
        ),
        click.option(
            "--max", "most", type=click.IntRange(1, MOST_REPLICAS),
            help="Follow the load up to so many replicas.",
        ),
        click.option(
            "--requests-per-replica", "requests", type=click.IntRange(1, 100_000), metavar="N",
            help="Load of one replica, running and waiting.  [default: 0.7 of what it can decode]",
        ),
        click.option(
            "--schedule", "schedule", multiple=True, metavar="WHEN",
            help='At least so many: "mon-fri 08:00-20:00 Europe/Berlin = 4". May be repeated.',
        ),
        click.option(
            "--idle", metavar="SPAN",
            help="With --min 0: without a request for so long, the last is ended.  [default: 15m]",
        ),
        click.option(
            "--hold", metavar="SPAN",
            help="So long a request waits while no replica can answer; 0: a 503.  [default: 0]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options said; None and () where nothing was."""

    least: int | None
    most: int | None
    requests: int | None
    schedule: tuple[str, ...]
    idle: str | None
    hold: str | None

    def __bool__(self) -> bool:
        given = (self.least, self.most, self.requests, self.idle, self.hold)
        return bool(self.schedule) or any(one is not None for one in given)

    def over(self, base: Scaling) -> Scaling:
        """The order that `base` becomes.

        Raises:
            ArbiterError: a figure is malformed, or they contradict one another.
        """
        changes: dict[str, Any] = {
            "min": self.least,
            "max": self.most,
            "requests_per_replica": self.requests,
            "idle_s": None if self.idle is None else seconds(self.idle),
            "hold_s": None if self.hold is None else seconds(self.hold),
            "schedule": self._windows(),
        }
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(base, **given).checked()

    def _windows(self) -> Any:
        from arbiter.service_hours import ScheduleWindow

        if not self.schedule:
            return None
        if self.schedule == (NO_SCHEDULE,):
            return ()
        return tuple(ScheduleWindow.parse(one) for one in self.schedule)


def first_number(scaling: Scaling, present: int, now: datetime) -> int:
    """How many replicas there should be until the load is known; also finds unknown zones.

    Raises:
        ArbiterError: a zone of the schedule is not known here.
    """
    from arbiter.scaler import local_times
    from arbiter.scaling import Reaction, target

    local = local_times(scaling, now)
    return target(now, scaling, present, 1.0, (), local, Reaction()).replicas


def refuse_what_needs_the_gateway(settings: Settings, scaling: Scaling) -> None:
    """Without a gateway nobody sees that a request came, and none can wait.

    Raises:
        ArbiterError: the order needs it, and it is switched off.
    """
    from arbiter.errors import ArbiterError

    if settings.gateway.enabled:
        return
    if scaling.min == 0 and scaling.by_load:
        raise ArbiterError(
            "a service at zero is woken by the gateway, which is switched off",
            "use --min 1, or set gateway.enabled = true",
        )
    if scaling.hold_s:
        raise ArbiterError(
            "requests wait at the gateway, which is switched off",
            "leave out --hold, or set gateway.enabled = true",
        )
