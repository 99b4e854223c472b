"""Policies by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from arbiter.backtest import peers
from arbiter.backtest.arbiter_policy import Arbiter
from arbiter.backtest.view import Factory, Policy, Setting
from arbiter.errors import UnknownName

OMNISCIENT = "omniscient"
"""Not a policy: the bound, in the place of one."""

IN_FORCE = "in-force"
"""The settings' policy, replayed by the daemon's own plan(); known to whoever has settings."""

ARBITER = "arbiter"
"""The project's own, an adapter of `arbiter.spot`, and the default."""

_PLAIN: Mapping[str, Callable[[Setting], Policy]] = {
    ARBITER: Arbiter,
    "on-demand": peers.OnDemand,
    "single-zone": peers.SingleZone,
    "even-spread": peers.EvenSpread,
    "round-robin": peers.RoundRobin,
}

_SPOTHEDGE = re.compile(
    r"(?P<rule>spothedge|skypilot)(?::(?P<extra>\d{1,3})(?::(?P<cap>0?\.\d+|1(?:\.0*)?))?)?"
)

NAMES = (*_PLAIN, "spothedge:X", "spothedge:X:CAP", "skypilot:X", IN_FORCE, OMNISCIENT)
"""For people: X is a number of extra spot replicas, CAP a share of the on-demand price.
"skypilot" is SpotHedge that trusts all zones again as soon as fewer than two are trusted."""


def named(name: str) -> Factory:
    """The policy of a name ("on-demand", "spothedge:1", "spothedge:0:0.5").

    Raises:
        UnknownName: there is no such policy.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    found = _SPOTHEDGE.fullmatch(name)
    if found:
        extra, cap = int(found["extra"] or 0), float(found["cap"]) if found["cap"] else None
        least = 2 if found["rule"] == "skypilot" else None
        return lambda setting: peers.SpotHedge(setting, extra, cap, least)
    raise UnknownName(
        f"there is no policy {name!r}",
        f"there are {', '.join(NAMES)}, and files that end in .toml",
    )
