"""The back-off after machines whose server never served, as in a crash loop. Pure.

What is wrong with an image, a model or its flags is wrong on every machine, and each one is paid
for until it is given up. So only the second round is launched at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

NEVER_SERVED = "it did not serve within"
"""How the reason begins for which such a machine is ended; the replica keeps it as its note."""

AT_ONCE = 1
"""So many rounds may fail before the next one has to wait: it may have been the machines."""

FIRST = timedelta(minutes=10)
LONGEST = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Failed:
    """A machine that was given up, for its server never served.

    Attributes:
        at: when it was ended.
        reason: what was seen of it last.
    """

    launched_at: datetime
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class BackOff:
    """A wait that is in force.

    Attributes:
        until: nothing is launched before this instant.
        machines: how many never served, since one last did.
        reason: of the last one.
    """

    until: datetime
    machines: int
    reason: str

    def __str__(self) -> str:
        return (
            f"launches nothing before {self.until:%Y-%m-%d %H:%M} UTC: the last {self.machines} "
            f"machines never served; of the last one: {self.reason}"
        )


def back_off(failed: Sequence[Failed], now: datetime) -> BackOff | None:
    """The wait before the next launch, which doubles with each round; None: there is none.

    Machines that ran beside each other are one round: each was launched before the first of them
    had been given up.

    Args:
        failed: machines of one service that never served, since one served and since the service
            was last ordered.
    """
    known = sorted((one for one in failed if one.at <= now), key=lambda one: one.at)
    rounds, began = 0, None
    for one in known:
        if began is None or one.launched_at >= began:
            rounds, began = rounds + 1, one.at
    if rounds <= AT_ONCE:
        return None
    doubled = min(rounds - AT_ONCE - 1, 16)
    until = known[-1].at + min(FIRST * 2**doubled, LONGEST)
    return BackOff(until, len(known), known[-1].reason) if now < until else None
