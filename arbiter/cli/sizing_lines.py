"""How offers were sized, for `arbiter offers --explain`: as text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from arbiter.breakdown import Figure, breakdown
from arbiter.calibration import Calibration
from arbiter.commitments import COMMITTED
from arbiter.market import demand_per_replica
from arbiter.sizing import ERROR, Fit, error_sentence, fit
from arbiter.variants import at_quality

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.cli.asked import Asked, Row
    from arbiter.profiles import Profile


@dataclass(frozen=True, slots=True)
class Sizing:
    """One kind of machine under a model, and the offers of it."""

    now: datetime
    profile: Profile
    gpu: str
    gpu_count: int
    fitted: Fit
    demand: Decimal | None
    rows: Sequence[Row]

    @property
    def figures(self) -> list[Figure]:
        """The calculation."""
        return breakdown(self.fitted, self.now, self.demand)

    def lines(self) -> Iterator[str]:
        """For people: the calculation, then what each offer costs."""
        variant = self.fitted.variant
        yield (
            f"{self.profile.name} as {variant.quantization} ({variant.repository}) "
            f"on {self.gpu} x{self.gpu_count}: {error_sentence(variant.quantization)}"
        )
        for figure in self.figures:
            whole = figure.value == int(figure.value)
            value = f"{figure.value:,.{0 if whole else 2}f} {figure.unit}"
            yield f"  {figure.name:<18}  {value:>26}  = {figure.formula}  [{figure.source}]"
        for row in self.rows:
            yield self._cost(row)

    def as_dict(self) -> dict[str, Any]:
        """For programs: the same figures."""
        variant, evidence = self.fitted.variant, self.fitted.evidence
        half, most = ERROR.get(variant.quantization, (None, None))
        return {
            "profile": self.profile.name,
            "variant": variant.quantization.value,
            "repository": variant.repository,
            "gpu": self.gpu,
            "gpu_count": self.gpu_count,
            "estimated_tokens_per_s": self.fitted.estimated,
            "tokens_per_s": self.fitted.tokens_per_s,
            "demand_tokens_per_s": self.demand,
            "rate_basis": evidence.basis.value,
            "estimate_error_median_percent": half,
            "estimate_error_p90_percent": most,
            "figures": [
                {
                    "name": figure.name,
                    "value": figure.value,
                    "unit": figure.unit,
                    "formula": figure.formula,
                    "source": figure.source,
                }
                for figure in self.figures
            ],
        }

    def _cost(self, row: Row) -> str:
        from arbiter.offer_shapes import age

        quote, cost = row[0], row[1]
        rate = self.fitted.tokens_per_s
        counted = rate if self.demand is None else min(rate, self.demand)
        formula = f"{quote.price} an hour x 1e6 / (3600 s x {counted} tokens/s)"
        if COMMITTED in row[3]:
            formula = "what using a machine that is paid for costs besides"
        source = f"{quote.source or 'no source noted'}, seen {age(self.now, quote.observed_at)} ago"
        where = f"{quote.offer.where} {quote.offer.purchase}"
        return f"  {'cost':<18}  {f'{cost} USD/Mtok':>26}  = {formula}, {where}  [{source}]"


def sizings(asked: Asked, rows: Sequence[Row]) -> Iterator[Sizing]:
    """The kinds of machine among these offers, in their order."""
    profile = asked.profile
    if profile is None:
        return
    served = at_quality(profile, asked.policy)
    calibration = Calibration(asked.rates, profile.name, asked.now)
    for gpu, count in dict.fromkeys(map(_kind, rows)):
        fitted = fit(served, gpu, count, calibration)
        if isinstance(fitted, Fit):
            own = [row for row in rows if _kind(row) == (gpu, count)]
            yield Sizing(asked.now, profile, gpu, count, fitted, demand_per_replica(profile), own)


def _kind(row: Row) -> tuple[str, int]:
    return row[0].offer.gpu, row[0].offer.gpu_count
