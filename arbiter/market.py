"""Which offers may be used now, at what cost per token, and which rule left out the others.

Pure. `sift` is what `arbiter offers` shows, what `plan` chooses from, and what a backtest replays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property

from arbiter.calibration import Rates
from arbiter.commitments import COMMITTED
from arbiter.domain import (
    Candidate,
    Offer,
    OfferKey,
    Purchase,
    Quote,
    Refusal,
    RefusedOffer,
)
from arbiter.policy import Policy
from arbiter.pools import pool_of
from arbiter.profiles import Profile
from arbiter.ranking import ranked
from arbiter.sieve import Failure, ModelSieve, Sieve, newest, oldest
from arbiter.sizing import tenths


@dataclass(frozen=True)
class Sifted:
    """All quotes, each either a candidate or refused by one rule.

    Attributes:
        candidates: cheapest per million output tokens first.
        refused: the others, each with the first rule that left it out.
    """

    candidates: tuple[Candidate, ...]
    refused: tuple[RefusedOffer, ...]

    @cached_property
    def pools(self) -> Mapping[str, Candidate]:
        """Pool of spot machines -> the cheapest candidate in it; the cheapest pool first."""
        found: dict[str, Candidate] = {}
        for one in self.candidates:
            if one.quote.offer.purchase is Purchase.SPOT:
                found.setdefault(pool_of(one.quote.offer), one)
        return found

    @cached_property
    def paid(self) -> Sequence[Candidate]:
        """On-demand machines that are paid for already."""
        return [one for one in self.candidates if COMMITTED in one.marks]

    def refused_by_rule(self) -> dict[str, int]:
        """Rule -> number of offers it left out, most first."""
        return dict(self._refused_by_rule)

    @cached_property
    def _refused_by_rule(self) -> list[tuple[str, int]]:
        return Counter(refusal.rule for refusal in self.refused).most_common()


class PriceList(tuple[Quote, ...]):
    """Every known quote, for whoever decides on the same ones time and again.

    `sift` remembers its answers in it for as long as nothing but the time has changed.
    """

    MOST = 16
    """Answers that are remembered."""

    def __init__(self, quotes: Sequence[Quote]) -> None:
        seen = [one.observed_at for one in quotes]
        self._first, self._last = min(seen, default=None), max(seen, default=None)
        self._answers: dict[Hashable, tuple[object, Sifted]] = {}

    def is_fresh(self, now: datetime, policy: Policy) -> bool:
        """Whether none of the quotes is stale, nor seen in the future."""
        if self._first is None or self._last is None:
            return True
        return oldest(now, policy) <= self._first and self._last <= newest(now)

    def once(self, same: Sequence[object], equal: Hashable, sifted: Callable[[], Sifted]) -> Sifted:
        """What was sifted before under the very same objects, and equal ones; otherwise now."""
        key = equal, *map(id, same)
        if key not in self._answers:
            if len(self._answers) >= self.MOST:
                self._answers.clear()
            self._answers[key] = same, sifted()  # what is kept keeps its id
        return self._answers[key][1]


def sift(
    now: datetime,
    quotes: Sequence[Quote],
    profile: Profile,
    policy: Policy,
    *,
    not_launchable: Mapping[str, str] | None = None,
    refusals: Iterable[Refusal] = (),
    rates: Rates | None = None,
    demand: Decimal | None = None,
    committed: Mapping[str, int] | None = None,
) -> Sifted:
    """Split the quotes into candidates and refused offers.

    Rules are asked in a fixed order, the law before the price: sovereignty, what can be launched,
    what fits, how it may be bought, what it costs, and what was refused lately.

    Args:
        not_launchable: provider, or provider/tier -> why nothing is launched there.
        refusals: remembered capacity failures; those that have run out are ignored.
        rates: what was measured of machines, which corrects the estimates.
        demand: output tokens per second that a replica is asked for at its busiest: no more are
            paid for, however fast the machine is. None where it is not known: then all that the
            machine can make count.
        committed: machine -> how many of those that are paid for are used already.
    """
    blocked = {} if not_launchable is None else not_launchable
    standing = [one for one in refusals if one.until > now]

    def sifted() -> Sifted:
        sieve = ModelSieve(
            now, profile, policy, blocked, standing, quotes, rates, demand, committed
        )
        return _sifted(sieve, quotes)

    timeless = not rates and not policy.commitments
    if timeless and isinstance(quotes, PriceList) and quotes.is_fresh(now, policy):
        equal = demand, tuple(blocked.items())
        return quotes.once((profile, policy, *standing), equal, sifted)
    return sifted()


def _sifted(sieve: ModelSieve, quotes: Sequence[Quote]) -> Sifted:
    candidates: list[Candidate] = []
    refused: list[RefusedOffer] = []
    for quote in quotes:
        result = sieve.ask(quote)
        if isinstance(result, Candidate):
            candidates.append(result)
        else:
            refused.append(RefusedOffer(quote.offer, *result))
    return Sifted(ranked(candidates), tuple(refused))


def demand_per_replica(
    profile: Profile, replicas: int = 1, counted: float | None = None
) -> Decimal | None:
    """Output tokens per second that a replica is asked for at its busiest, to 0.1.

    What the profile says, or else a share of what was counted; None where neither is known.

    Args:
        replicas: how many share it.
        counted: of the whole service, at its busiest.
    """
    stated = profile.workload.demand_tokens_per_s
    if stated is None and counted is not None and replicas > 0:
        stated = counted / replicas
    return None if stated is None else tenths(stated)


def kind_rules(
    profile: Profile, policy: Policy, not_launchable: Mapping[str, str]
) -> tuple[Callable[[Offer], Failure | None], Callable[[Offer], Failure | None]]:
    """The first rules of `sift`, which every offer of one kind answers alike.

    A kind is a tier and a GPU, so many to a machine, in one region: the law, the launcher and the
    model's size know no more of it. Whoever only counts the refused need not look at each.

    Returns:
        What refuses all of a region and tier, and what refuses all machines with so many of a GPU.
    """
    sieve = ModelSieve(datetime(2000, 1, 1, tzinfo=UTC), profile, policy, not_launchable, (), ())
    return sieve.refuse_place, sieve.refuse_machine


@dataclass(frozen=True, slots=True)
class Listed:
    """All quotes without a model in mind, so without sizing and cost per token.

    Attributes:
        quotes: what may be used, cheapest per GPU-hour first.
        refused: the others, each with the first rule that left it out.
        marks: what is to be known of those that may be used, where there is something.
    """

    quotes: tuple[Quote, ...]
    refused: tuple[RefusedOffer, ...]
    marks: Mapping[OfferKey, tuple[str, ...]] = field(default_factory=dict)


def list_offers(
    now: datetime,
    quotes: Sequence[Quote],
    policy: Policy,
    *,
    not_launchable: Mapping[str, str] | None = None,
    refusals: Iterable[Refusal] = (),
) -> Listed:
    """As `sift`, for whoever has no model in mind: the rules on sizing and cost are not asked."""
    sieve = Sieve(now, policy, not_launchable or {}, refusals, quotes)
    kept: list[Quote] = []
    refused: list[RefusedOffer] = []
    for quote in quotes:
        failed = sieve.first_failure(quote)
        if failed is None:
            kept.append(quote)
        else:
            refused.append(RefusedOffer(quote.offer, *failed))
    marks = {one.offer.key: marked for one in kept if (marked := sieve.marks(one))}

    def order(quote: Quote) -> tuple[float, bool, str]:
        micros, key = quote.price.micros if quote.price else 0, quote.offer.key
        return micros / quote.offer.gpu_count, key in marks, str(key)

    kept.sort(key=order)
    return Listed(tuple(kept), tuple(refused), marks)
