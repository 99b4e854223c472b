"""What providers say of their own spot machines, as a beginning for what is believed. Pure.

Each figure becomes a rate of losses, that a factor over the common hazard, and that a prior:

| kind | what it counts | rate | over |
|---|---|---|---|
| interruption_band (AWS) | % of instances reclaimed in a month | -ln(1 - middle of band) | mean |
| eviction_rate (Azure) | % per hour, over 28 days | -ln(1 - middle of band) | TYPICAL |
| preemption_rate (GCP) | p of a day's stopped machines preempted | p / (1 - p) | mean |

AWS and GCP do not say for how long the machines ran that they count, so their figures only rank
their pools: each is taken over the geometric mean of that provider's. Azure's are losses per hour
and are compared with those that the common hazard expects of a machine's first day. The column
"over" is what the rate is divided by.

How well such figures foretell the losses of one tenant is not known, so only part of each is
believed (WORTH, an exponent), and less the older it is. A pool that nobody tells of has factor 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp, log
from typing import NamedTuple

DAY = 86_400.0

BAND, EVICTION, PREEMPTION = "interruption_band", "eviction_rate", "preemption_rate"

WORTH = {BAND: 0.5, EVICTION: 0.5, PREEMPTION: 0.25}
"""Kind -> share of its logarithm that is believed: half of a month's figure, a quarter of a day's.
An assumption: no public record joins these figures to losses."""

FADES_DAYS = 30.0
"""Days after which a figure is believed half as much: the length of what it was measured over."""

OPEN_BAND = 5.0
"""Width, percent, that a band without an upper end is taken to have: that of the others."""

TYPICAL = 0.069
"""Losses per hour that the common hazard expects of the first day of a machine in a pool that was
never asked before."""

MOST = 8.0
"""A factor beyond this, or below its inverse, counts as that much."""


class Said(NamedTuple):
    """One provider's figure.

    Attributes:
        pool: as `arbiter.pools` names it; the zone is "-" where all of a region is meant.
        kind: one of WORTH.
        low, high: its ends; None where it is open.
        text: the provider's own word.
        at: when it was measured, seconds.
    """

    provider: str
    pool: str
    kind: str
    low: float | None
    high: float | None
    text: str
    at: float


class Seed(NamedTuple):
    """What is believed of a pool before anything happened there.

    Attributes:
        factor: times the hazard of a pool that nobody tells of.
        kind, text, at: of the figure that it comes from.
    """

    factor: float
    kind: str
    text: str
    at: float


def seeds(said: Iterable[Said], at: float) -> dict[str, Seed]:
    """Pool -> its seed at an instant in seconds; one without a figure has none."""
    rates = {(one.pool, one.kind): (one, rate) for one in said if (rate := _rate(one)) is not None}
    means = _means(rates.values())
    found: dict[str, Seed] = {}
    for (pool, kind), (one, rate) in sorted(rates.items()):
        over = TYPICAL if kind == EVICTION else means[one.provider, kind]
        relative = min(MOST, max(1.0 / MOST, rate / over))
        days = max(0.0, at - one.at) / DAY
        believed = WORTH[kind] * 0.5 ** (days / FADES_DAYS)
        found[pool] = Seed(relative**believed, kind, one.text or f"{one.low:g}", one.at)
    return found


def _rate(one: Said) -> float | None:
    """The figure as a rate; None where it is no figure."""
    if one.kind == PREEMPTION:
        if one.low is None:
            return None
        share = min(0.99, max(0.01, one.low))
        return share / (1.0 - share)
    if one.kind not in WORTH or (one.low is None and one.high is None):
        return None
    low = 0.0 if one.low is None else one.low
    high = low + OPEN_BAND if one.high is None else one.high
    share = min(0.99, max(0.001, (low + high) / 200.0))
    return -log(1.0 - share)


def _means(rates: Iterable[tuple[Said, float]]) -> Mapping[tuple[str, str], float]:
    """(provider, kind) -> geometric mean."""
    logs: dict[tuple[str, str], list[float]] = {}
    for one, rate in rates:
        logs.setdefault((one.provider, one.kind), []).append(log(rate))
    return {key: exp(sum(sorted(found)) / len(found)) for key, found in logs.items()}
