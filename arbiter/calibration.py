"""How far measured rates correct the estimate: per model, variant and kind of machine. Pure.

A server with all the work that it can do measures its machine; what a server makes that is asked
for less measures its clients. Of the former is kept, for every kind, how many seconds it was so
busy, and for how many seconds the estimate would have needed to make as many tokens:

    factor = (seconds of the estimate + TRUST_S x prior) / (busy seconds + TRUST_S)

The prior is 1 until another kind has measured the same model, for a load that differs from the
profile's, and a version of vLLM, show everywhere alike: it is the mean of 1 and of what each other
kind has measured, which counts for as much as 1 does once it was busy for long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

TRUST_S = 600.0
"""Busy seconds that the estimate weighs as much as."""

HALF_LIFE_S = 14 * 86_400.0
"""After so long a measurement counts half: versions change, and so does the load."""

CREDIBLE = 10.0
"""A rate that misses the estimate by more than this factor measures something else."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Basis(StrEnum):
    """What a rate in tokens per second rests on."""

    ESTIMATED = "estimated"
    CORRECTED = "corrected"  # by other kinds of machine, or by too little of its own
    MEASURED = "measured"  # on this kind of machine, for long enough to outweigh the estimate


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stands behind a rate.

    Attributes:
        factor: what the estimate was multiplied by, to 0.01.
        busy_s: seconds for which machines of this kind were busy with this model, those longer ago
            counting less.
        seen_at: when they last were; None where they never were.
    """

    basis: Basis = Basis.ESTIMATED
    factor: float = 1.0
    busy_s: float = 0.0
    seen_at: datetime | None = None

    def __str__(self) -> str:
        """In a few words: "estimated", "measured, x0.71 of the estimate"."""
        if self.basis is Basis.ESTIMATED:
            return self.basis.value
        return f"{self.basis}, x{self.factor:.2f} of the estimate"


ESTIMATE = Evidence()


class Rate(NamedTuple):
    """What is known of one kind, as of an instant.

    Attributes:
        made_s: seconds that the estimate would have needed for the tokens that were made.
        busy_s: seconds in which they were.
        seen_at: seconds since 1970.
    """

    made_s: float
    busy_s: float
    seen_at: float

    def faded(self, at: float) -> Rate:
        """As old as it is at an instant."""
        fade = 0.5 ** (max(0.0, at - self.seen_at) / HALF_LIFE_S)
        return Rate(self.made_s * fade, self.busy_s * fade, self.seen_at)


Rates = Mapping[str, Rate]
"""By kind: "model/variant/GPU/count"."""


@dataclass(frozen=True, slots=True)
class Busy:
    """A server had all the work that it can do.

    Attributes:
        at: seconds since 1970.
        kind: of machine, as of `kind`.
        seconds: for so long.
        tokens: output tokens that it made in them.
        estimated: output tokens per second by the estimate alone, above 0.
    """

    at: float
    kind: str
    seconds: float
    tokens: int
    estimated: float


def kind(model: str, variant: str, gpu: str, count: int) -> str:
    """The name of a kind of machine under a model."""
    return f"{model}/{variant}/{gpu}/{count}"


def busied(rates: Rates, event: Busy) -> Rates:
    """The rates after a server was busy; what cannot be believed changes nothing."""
    made_s = event.tokens / event.estimated
    if not event.seconds / CREDIBLE <= made_s <= event.seconds * CREDIBLE:
        return rates
    known = rates.get(event.kind, Rate(0.0, 0.0, event.at))
    at = max(event.at, known.seen_at)  # a clock set back: time stands still until it has caught up
    past = known.faded(at)
    return {**rates, event.kind: Rate(past.made_s + made_s, past.busy_s + event.seconds, at)}


def plain_rates(rates: Rates) -> dict[str, Any]:
    """Dictionaries, strings and numbers, for JSON; `rates_of` gives back the same."""
    return {name: rate._asdict() for name, rate in rates.items()}


def rates_of(plain: Mapping[str, Any]) -> Rates:
    """The rates of `plain_rates`.

    Raises:
        TypeError: it is not what `plain_rates` made.
    """
    return {name: Rate(**fields) for name, fields in plain.items()}


class Calibration:
    """What is known of one model at an instant.

    Args:
        at: aware UTC.
    """

    def __init__(self, rates: Rates, model: str, at: datetime) -> None:
        now = (at - EPOCH).total_seconds()
        self._model = model
        self._known = {
            name: rate.faded(now)
            for name, rate in sorted(rates.items())
            if name.startswith(f"{model}/")
        }

    def of(self, variant: str, gpu: str, count: int) -> Evidence:
        """What stands behind the rate of a kind of machine."""
        if not self._known:
            return ESTIMATE
        name = kind(self._model, variant, gpu, count)
        own = self._known.get(name)
        prior = self._prior(name)
        if own is None:
            return Evidence(Basis.CORRECTED, round(prior, 2))
        factor = (own.made_s + TRUST_S * prior) / (own.busy_s + TRUST_S)
        return Evidence(
            basis=Basis.MEASURED if own.busy_s >= TRUST_S else Basis.CORRECTED,
            factor=round(factor, 2),
            busy_s=round(own.busy_s, 1),
            seen_at=EPOCH + timedelta(seconds=round(own.seen_at)),
        )

    def _prior(self, name: str) -> float:
        """What the other kinds let expect of one."""
        total, weight = 1.0, 1.0
        for other, rate in self._known.items():
            if other != name and rate.busy_s > 0:
                share = rate.busy_s / (rate.busy_s + TRUST_S)
                total += share * rate.made_s / rate.busy_s
                weight += share
        return total / weight
