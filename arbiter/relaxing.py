"""What would have to be given up where no offer is eligible: the smallest single steps. Pure.

An offer is counted by the first rule that refuses it, and the next one may refuse it too. So each
step is tried on all offers, and named only with what it really lets in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_UP, Decimal

from arbiter.calibration import Rates
from arbiter.commitments import in_use
from arbiter.domain import Candidate, Quote
from arbiter.market import sift
from arbiter.planner import Fleet, demand
from arbiter.policy import Policy
from arbiter.sovereignty import Level, Selection

CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One step that would let something in.

    Attributes:
        step: what to change, as settings name it.
        offers: how many would be eligible then.
        cheapest: per million output tokens, of those.
    """

    step: str
    offers: int
    cheapest: Candidate

    def __str__(self) -> str:
        quote, more = self.cheapest.quote, "s" if self.offers > 1 else ""
        return (
            f"{self.step} would let in {self.offers} offer{more}, the cheapest "
            f"{quote.offer.where} {quote.offer.instance_type} {quote.offer.purchase} at "
            f"{quote.price} an hour"
        )


def relaxations(
    now: datetime,
    quotes: Sequence[Quote],
    fleet: Fleet,
    policy: Policy,
    rates: Rates | None = None,
) -> tuple[Relaxation, ...]:
    """Every single step that lets in at least one offer; empty where it takes several.

    Of levels only the strictest that does so is named, of a cap the least.
    """
    committed = in_use(fleet.replicas) + Counter(fleet.elsewhere)

    def eligible(then: Policy, *, waited: bool = False) -> tuple[Candidate, ...]:
        sifted = sift(
            now,
            quotes,
            fleet.profile,
            then,
            not_launchable=fleet.not_launchable,
            refusals=() if waited else fleet.refusals,
            rates=rates,
            demand=demand(fleet),
            committed=committed,
        )
        return sifted.candidates

    found = [_named("to wait until refused places are tried again", eligible(policy, waited=True))]
    found += [_named(step, eligible(then)) for step, then in _switched(policy)]
    if policy.max_usd_per_hour is not None:
        found.append(_capped(eligible(replace(policy, max_usd_per_hour=None))))
    looser = (_named(f"sovereignty {one}", eligible(_at(policy, one))) for one in _looser(policy))
    found.append(next((one for one in looser if one is not None), None))
    return tuple(one for one in found if one is not None)


def _named(step: str, candidates: Sequence[Candidate]) -> Relaxation | None:
    return Relaxation(step, len(candidates), candidates[0]) if candidates else None


def _capped(candidates: Sequence[Candidate]) -> Relaxation | None:
    """The least cap an hour that lets one in, and who is within it."""
    prices = [one.quote.price.amount for one in candidates if one.quote.price is not None]
    if not prices:
        return None
    cap = min(prices).quantize(CENT, ROUND_UP)
    within = [one for one in candidates if one.quote.price and one.quote.price.amount <= cap]
    return _named(f"policy.max_usd_per_hour = {cap}", within)


def _switched(policy: Policy) -> Iterator[tuple[str, Policy]]:
    rule = policy.sovereignty
    if not policy.spot:
        yield "policy.spot = true", replace(policy, spot=True)
    if not policy.on_demand:
        yield "policy.on_demand = true", replace(policy, on_demand=True)
    if policy.max_usd_per_mtok is not None:
        yield "no policy.max_usd_per_mtok", replace(policy, max_usd_per_mtok=None)
    if policy.quality_floor is not None:
        yield "no policy.quality_floor", replace(policy, quality_floor=None)
    nobody = Selection()
    emptied = {"allow": replace(rule, allow=nobody), "deny": replace(rule, deny=nobody)}
    for name in emptied:
        if getattr(rule, name) != nobody:
            yield f"no policy.sovereignty.{name}", replace(policy, sovereignty=emptied[name])


def _looser(policy: Policy) -> list[Level]:
    """The levels below the one in force, the strictest first."""
    strictness = policy.sovereignty.level.strictness
    below = [level for level in Level if level.strictness < strictness]
    return sorted(below, key=lambda level: -level.strictness)


def _at(policy: Policy, level: Level) -> Policy:
    return replace(policy, sovereignty=replace(policy.sovereignty, level=level))
