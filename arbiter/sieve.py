"""The rules that leave offers out, each asked once of what it answers alike. Pure.

The law comes before the price: sovereignty, what can be launched, what fits, how it may be bought,
what it costs, and what was refused lately.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple

from arbiter.calibration import Calibration, Rates
from arbiter.commitments import COMMITTED, in_force, machine_of
from arbiter.domain import Candidate, Offer, Purchase, Quote, Refusal
from arbiter.money import MICROS, Price
from arbiter.policy import Policy
from arbiter.profiles import Profile
from arbiter.sizing import Fit, NoFit, fit, usd_per_mtok
from arbiter.sovereignty import Refused, Verdict, judge
from arbiter.variants import at_quality, floor_of

NO_DISCOUNT = "no_discount"
"""The mark of a spot offer at or above the on-demand price of the same machine in the same region:
it saves nothing, may be taken back, and is probably empty."""

CLOCKS_APART = timedelta(minutes=5)
"""How far in the future a price may have been seen before the clock is taken to have moved."""

_identity = attrgetter("zone", "provider", "tier", "region", "instance_type", "purchase")
"""What tells offers, and their keys, apart."""

Failure = tuple[str, str]
"""A rule that refused, and why."""


def oldest(now: datetime, policy: Policy) -> datetime:
    """What was seen before this instant is stale."""
    return now - timedelta(seconds=policy.max_quote_age_s)


def newest(now: datetime) -> datetime:
    """What was seen after this instant was seen by a clock that has been moved."""
    return now + CLOCKS_APART


class _Alike(NamedTuple):
    """What usable offers of one machine in one place, bought one way, have in common.

    Attributes:
        on_demand: of a spot machine, what it costs on demand, where that is known.
    """

    fitted: Fit
    on_demand: Price | None


class Sieve:
    """The rules in their order, with what was already answered remembered by value."""

    def __init__(
        self,
        now: datetime,
        policy: Policy,
        not_launchable: Mapping[str, str],
        refusals: Iterable[Refusal],
        quotes: Sequence[Quote],
    ) -> None:
        self._policy = policy
        self._not_launchable = not_launchable
        self._oldest, self._newest = oldest(now, policy), newest(now)
        self._refused = {_identity(one.key): one for one in refusals if one.until > now}
        self._on_demand = _on_demand_prices(quotes)
        self._verdicts: dict[tuple[int, str], Verdict] = {}

    def first_failure(self, quote: Quote) -> Failure | None:
        """The first rule that refuses, of those that ask nothing of the model."""
        offer = quote.offer
        return (
            self.refuse_place(offer)
            or self._purchase(offer)
            or self._price(quote)
            or (self._capacity(offer) if self._refused else None)
        )

    def refuse_place(self, offer: Offer) -> Failure | None:
        """The rule that refuses all of its region and tier."""
        verdict = self._verdict(offer)
        if isinstance(verdict, Refused):
            return verdict.rule, verdict.reason
        blocked = self._not_launchable.get(offer.provider)
        if blocked is None and offer.tier != "standard":
            blocked = self._not_launchable.get(f"{offer.provider}/{offer.tier}")
        return None if blocked is None else ("not_launchable", blocked)

    def _purchase(self, offer: Offer) -> Failure | None:
        if self._policy.allows(offer.purchase):
            return None
        return "purchase_not_allowed", f"the policy allows no {offer.purchase} machines"

    def _verdict(self, offer: Offer) -> Verdict:
        # By identity: one Place object serves all offers of its region.
        key = (id(offer.place), offer.tier)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = judge(offer.place, self._policy.sovereignty, offer.tier)
            self._verdicts[key] = verdict
        return verdict

    def _price(self, quote: Quote, marginal: Price | None = None) -> Failure | None:
        """Whether a price is known, fresh and within the cap; of one paid for, the rest of it."""
        price = quote.price
        if price is None or price.micros <= 0:
            return "price_unknown", "no price is known"
        if quote.observed_at < self._oldest:
            return "stale", f"last seen {quote.observed_at:%Y-%m-%d %H:%M} UTC"
        if quote.observed_at > self._newest:
            return "stale", "seen in the future: the clock has moved back"
        if price.currency != "USD":
            return "currency_unconverted", (
                f"priced in {price.currency}, and no reference rate of its day is stored "
                "(arbiter prices rates --fetch)"
            )
        cap = self._policy.max_usd_per_hour
        if cap is not None and (marginal or price).micros > cap * MICROS:
            return "price_above_cap", f"{price} an hour is above the cap of {cap} USD"
        return None

    def _capacity(self, offer: Offer) -> Failure | None:
        key = _identity(offer)
        refusal = self._refused.get(key)
        if refusal is None and offer.zone is not None:
            # What a quota forbids it forbids in every zone; such a refusal names none.
            refusal = self._refused.get((None, *key[1:]))
        if refusal is None:
            return None
        what = "was lost" if refusal.lost else "had no capacity"
        return "capacity_refused", (
            f"{what} at {refusal.at:%H:%M} UTC, tried again after {refusal.until:%H:%M}"
        )

    def marks(self, quote: Quote) -> tuple[str, ...]:
        """What is to be known of an offer that may be used."""
        return _marks(quote.price, self._bought_for(quote.offer))

    def _bought_for(self, offer: Offer) -> Price | None:
        """What a spot machine costs on demand, where that is known."""
        spot = offer.purchase is Purchase.SPOT
        return self._on_demand.get(_machine(offer)) if spot else None


class ModelSieve(Sieve):
    """The rules for one model: those on its size and its cost among the others."""

    def __init__(
        self,
        now: datetime,
        profile: Profile,
        policy: Policy,
        not_launchable: Mapping[str, str],
        refusals: Iterable[Refusal],
        quotes: Sequence[Quote],
        rates: Rates | None = None,
        demand: Decimal | None = None,
        committed: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(now, policy, not_launchable, refusals, quotes)
        used = committed or {}
        self._paid_for = {
            machine: Price.of(one.usd_per_hour)
            for machine, one in in_force(policy.commitments, now).items()
            if used.get(machine, 0) < one.count
        }
        self._profile = profile
        self._served = at_quality(profile, policy)
        self._demand = demand
        self._calibration = Calibration(rates, profile.name, now) if rates else None
        self._fits: dict[tuple[str, int], Fit | NoFit] = {}
        self._answers: dict[tuple[int, str, str, str, str, int, Purchase], _Alike | Failure] = {}

    def refuse_machine(self, offer: Offer) -> Failure | None:
        """The rule that refuses all machines with so many of this GPU."""
        fitted = self._fit(offer)
        return (fitted.rule, fitted.reason) if isinstance(fitted, NoFit) else None

    def ask(self, quote: Quote) -> Candidate | Failure:
        """A candidate, or the first rule that refuses, with its reason."""
        offer = quote.offer
        alike = self._alike(offer)
        if not isinstance(alike, _Alike):
            return alike
        fitted, on_demand = alike
        paid = self._paid_for.get(machine_of(offer) or "") if self._paid_for else None
        failed = self._price(quote, paid)
        if failed is not None or quote.price is None:
            return failed or ("price_unknown", "no price is known")
        full = usd_per_mtok(quote.price, fitted.tokens_per_s)
        cost = full if paid is None else usd_per_mtok(paid, fitted.tokens_per_s)
        cap = self._policy.max_usd_per_mtok
        if cap is not None and cost > cap:
            return "price_above_cap", f"{cost} USD per million tokens is above the cap of {cap}"
        if self._demand is not None and self._demand < fitted.tokens_per_s:
            full = usd_per_mtok(quote.price, self._demand)
            cost = full if paid is None else usd_per_mtok(paid, self._demand)
        refused = self._capacity(offer) if self._refused else None
        return refused or Candidate(
            quote,
            fitted.tokens_per_s,
            cost,
            fitted.variant.quantization,
            _marks(quote.price, on_demand) if paid is None else (COMMITTED,),
            fitted.evidence,
            None if paid is None else full,
        )

    def _alike(self, offer: Offer) -> _Alike | Failure:
        """What every offer of one place, tier, machine and purchase is answered before its price.

        By identity of the place, as its verdict is.
        """
        key = (
            id(offer.place), offer.provider, offer.tier, offer.instance_type, offer.gpu,
            offer.gpu_count, offer.purchase,
        )  # fmt: skip
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._answer_alike(offer)
        return found

    def _answer_alike(self, offer: Offer) -> _Alike | Failure:
        failed = self.refuse_place(offer)
        if failed is not None:
            return failed
        fitted = self._fit(offer)
        if isinstance(fitted, NoFit):
            return fitted.rule, fitted.reason
        return self._purchase(offer) or _Alike(fitted, self._bought_for(offer))

    def _fit(self, offer: Offer) -> Fit | NoFit:
        key = (offer.gpu, offer.gpu_count)
        found = self._fits.get(key)
        if found is None:
            found = self._fit_anew(offer)
            self._fits[key] = found
        return found

    def _fit_anew(self, offer: Offer) -> Fit | NoFit:
        """The fastest variant that is good enough, which at one price is the cheapest."""
        if self._served.variants:
            found = fit(self._served, offer.gpu, offer.gpu_count, self._calibration)
            if isinstance(found, Fit) or self._served is self._profile:
                return found
        below = fit(self._profile, offer.gpu, offer.gpu_count)
        if isinstance(below, NoFit):
            return below
        return NoFit(
            "below_quality_floor",
            f"only {below.variant.quantization} runs there, below the quality floor, "
            f"{floor_of(self._profile, self._policy)}",
        )


def _marks(price: Price | None, on_demand: Price | None) -> tuple[str, ...]:
    if price is None or on_demand is None or on_demand.currency != price.currency:
        return ()
    return (NO_DISCOUNT,) if price.micros >= on_demand.micros else ()


def _machine(offer: Offer) -> tuple[str, str, str, str]:
    return offer.provider, offer.tier, offer.region, offer.instance_type


def _on_demand_prices(quotes: Sequence[Quote]) -> dict[tuple[str, str, str, str], Price]:
    """Machine -> on-demand price per hour: the least of its zones', whatever their order."""
    found: dict[tuple[str, str, str, str], Price] = {}
    for quote in quotes:
        price = quote.price
        if quote.offer.purchase is Purchase.ON_DEMAND and price is not None:
            least = found.setdefault(_machine(quote.offer), price)
            if (price.currency, price.micros) < (least.currency, least.micros):
                found[_machine(quote.offer)] = price
    return found
