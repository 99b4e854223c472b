"""What a million tokens cost: on machines that run, and at the full price of one paid for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter

from arbiter.calibration import Calibration, Rates
from arbiter.commitments import COMMITTED, Commitment
from arbiter.domain import Candidate, Purchase, Quote, Replica
from arbiter.money import MICROS, Price
from arbiter.policy import Policy
from arbiter.profiles import Profile
from arbiter.ranking import rank
from arbiter.sizing import Fit, fit, usd_per_mtok

_key = attrgetter("provider", "tier", "region", "zone", "instance_type", "purchase")
"""What identifies an offer, without the cost of making its key."""


def present_costs(
    now: datetime,
    profile: Profile,
    quotes: Sequence[Quote],
    replicas: Sequence[Replica],
    *,
    rates: Rates,
    demand: Decimal | None,
    paid: Mapping[str, Commitment],
) -> dict[str, Decimal]:
    """Cluster -> USD per million tokens at today's price, or at the launch price when unquoted.

    Args:
        rates, demand: as of `arbiter.market.sift`.
        paid: cluster -> the commitment it stands on: it costs only what using that costs besides.
    """
    ours = {_key(one.offer) for one in replicas}
    zones = {one.offer.zone for one in replicas}  # quick to compare, and most are in none of them
    quoted = {
        key: quote.price
        for quote in quotes
        if quote.offer.zone in zones and (key := _key(quote.offer)) in ours
    }
    calibration = Calibration(rates, profile.name, now) if rates else None
    kinds = {(one.offer.gpu, one.offer.gpu_count) for one in replicas}
    fits = {kind: fit(profile, *kind, calibration) for kind in kinds}
    costs = {}
    for replica in replicas:
        fitted = fits[replica.offer.gpu, replica.offer.gpu_count]
        price = quoted.get(_key(replica.offer)) or replica.price
        if replica.cluster in paid:
            price = Price.of(paid[replica.cluster].usd_per_hour)
        if isinstance(fitted, Fit) and price is not None and price.currency == "USD":
            rate = fitted.tokens_per_s
            costs[replica.cluster] = usd_per_mtok(price, min(rate, demand or rate))
    return costs


def at_full_price(candidate: Candidate) -> Candidate:
    """A candidate at the cost of its quoted price, whether or not a machine is paid for."""
    full = candidate.full_usd_per_mtok
    return candidate if full is None else candidate._replace(usd_per_mtok=full)


def within_caps(candidate: Candidate, policy: Policy) -> bool:
    """Whether a candidate at its quoted price and full load costs no more than is allowed."""
    price, hour, mtok = candidate.quote.price, policy.max_usd_per_hour, policy.max_usd_per_mtok
    too_dear = price is None or (hour is not None and price.micros > hour * MICROS)
    if too_dear or price is None or mtok is None:
        return not too_dear
    return usd_per_mtok(price, candidate.tokens_per_s) <= mtok


def cheapest_to_buy(candidates: Sequence[Candidate], policy: Policy) -> Candidate | None:
    """The cheapest on-demand offer at its full price: what is paid for may be used up."""
    bought = [
        at_full_price(one) for one in candidates if one.quote.offer.purchase is Purchase.ON_DEMAND
    ]
    allowed = (one for one in bought if COMMITTED not in one.marks or within_caps(one, policy))
    found = min(allowed, key=rank, default=None)
    return found if found is None or not found.marks else found._replace(marks=())
