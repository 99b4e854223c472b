"""The answer of `arbiter offers`, before it is printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from arbiter.calibration import ESTIMATE, Evidence, Rates
from arbiter.cli.context import Standing, degraded, policy_at, quick_standing
from arbiter.domain import Offer, Quote, RefusedOffer
from arbiter.errors import UnknownName
from arbiter.launchable import not_launchable
from arbiter.market import demand_per_replica, kind_rules, list_offers, sift
from arbiter.policy import Policy
from arbiter.store.quotes import Kinds

if TYPE_CHECKING:
    from arbiter.cli.app import App
    from arbiter.profiles import Profile

Row = tuple[Quote, Decimal | None, Decimal | None, Sequence[str], Evidence]
"""A quote, its dollars per million output tokens, its output tokens per second, its marks, and what
stands behind the rate."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, and found.

    Attributes:
        rows: eligible, cheapest first.
        refused: the others, one by one.
        left_out: rule -> how many more it refused, where only their number was wanted.
        degraded: provider and reason, one for each thing that is missing.
        rates: what was measured of machines.
    """

    now: datetime
    profile: Profile | None
    policy: Policy
    rows: Sequence[Row]
    refused: Sequence[RefusedOffer]
    left_out: Mapping[str, int]
    degraded: Sequence[dict[str, str]]
    simulated: bool
    rates: Rates

    def refused_by_rule(self) -> dict[str, int]:
        """Rule -> number of offers that it left out, most first, equals by name."""
        counts = Counter(one.rule for one in self.refused)
        counts.update(self.left_out)
        return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))

    def policy_dict(self) -> dict[str, Any]:
        """The rules that were asked, for JSON."""
        policy = self.policy
        return {
            "name": policy.name,
            "sovereignty": policy.sovereignty.level.value,
            "spot": policy.spot,
            "on_demand": policy.on_demand,
            "max_quote_age_s": policy.max_quote_age_s,
            "max_usd_per_hour": policy.max_usd_per_hour,
            "max_usd_per_mtok": policy.max_usd_per_mtok,
        }


def ask(
    app: App,
    model: str | None,
    gpu: str | None,
    purchase: str | None,
    sovereignty: str | None,
    *,
    only_count: bool = False,
) -> Asked:
    """Sift what is stored.

    Args:
        gpu, purchase: only these are looked at, among the refused too.
        only_count: of what the law or the model's size refuses, only the number is wanted.

    Raises:
        ArbiterError: a name is not known, or nothing is stored yet.
    """
    settings = app.settings
    policy = policy_at(settings, sovereignty)
    profile = _profile(app, model)
    blocked = not_launchable(settings.executor)
    kinds = None
    if only_count and profile is not None and gpu is None and purchase is None:
        kinds = Kinds(*kind_rules(profile, policy, blocked))
    standing, now = quick_standing(settings, app.atlas, kinds), app.now()
    wanted = _Wanted(_gpu(gpu, standing.quotes), purchase)
    if profile is None:
        rows, refused = _listed(now, standing, policy, blocked, wanted)
    else:
        rows, refused = _sifted(now, standing, profile, policy, blocked, wanted)
    return Asked(
        now,
        profile,
        policy,
        rows,
        [one for one in refused if wanted(one.offer)],
        kinds.left_out if kinds else {},
        degraded(standing.polls),
        settings.simulated,
        standing.rates,
    )


def _listed(
    now: datetime,
    standing: Standing,
    policy: Policy,
    blocked: Mapping[str, str],
    wanted: Callable[[Offer], bool],
) -> tuple[list[Row], Sequence[RefusedOffer]]:
    """What may be used and what is refused, without a model in mind."""
    listed = list_offers(
        now, standing.quotes, policy, not_launchable=blocked, refusals=standing.refusals
    )
    marks = listed.marks
    rows: list[Row] = [
        (quote, None, None, marks.get(quote.offer.key, ()) if marks else (), ESTIMATE)
        for quote in listed.quotes
        if wanted(quote.offer)
    ]
    return rows, listed.refused


def _sifted(
    now: datetime,
    standing: Standing,
    profile: Profile,
    policy: Policy,
    blocked: Mapping[str, str],
    wanted: Callable[[Offer], bool],
) -> tuple[list[Row], Sequence[RefusedOffer]]:
    """What may be used and what is refused, for a model."""
    sifted = sift(
        now,
        standing.quotes,
        profile,
        policy,
        not_launchable=blocked,
        refusals=standing.refusals,
        rates=standing.rates,
        demand=demand_per_replica(profile),
    )
    rows: list[Row] = [
        (one.quote, one.usd_per_mtok, one.tokens_per_s, one.marks, one.evidence)
        for one in sifted.candidates
        if wanted(one.quote.offer)
    ]
    return rows, sifted.refused


class _Wanted:
    """Whether an offer is among those that the user asked to see."""

    def __init__(self, gpu: str | None, purchase: str | None) -> None:
        self._gpu = gpu
        self._purchase = purchase

    def __call__(self, offer: Offer) -> bool:
        return (self._gpu is None or offer.gpu == self._gpu) and (
            self._purchase is None or offer.purchase == self._purchase
        )


def _profile(app: App, model: str | None) -> Profile | None:
    if model is None:
        return None
    from arbiter.profile_cache import read_cached
    from arbiter.profiles import find_profile

    path = find_profile(model, app.settings.profiles_path)
    return read_cached(path, app.settings.data_dir / "cache" / "profiles")


def _gpu(name: str | None, quotes: Sequence[Quote]) -> str | None:
    """The GPU's name in the vocabulary, or as a provider calls it."""
    if name is None:
        return None
    from arbiter.gpus import GPUS, normalise

    sold = {quote.offer.gpu for quote in quotes}
    known = {one.lower(): one for one in (*sold, *GPUS)}
    found = known.get(name.lower()) or normalise(name)
    if found is None:
        from difflib import get_close_matches

        from arbiter.prices.question import folded

        looks = {folded(one): known[one] for one in sorted(known)}
        near = [one for one in looks if one.startswith(folded(name))]  # A100 is one of two
        near = near or get_close_matches(folded(name), looks, n=3)
        names = [looks[one] for one in near] or sorted(GPUS)
        guess = "did you mean " if near else "there are "
        raise UnknownName(f"no GPU is called {name!r}", guess + ", ".join(names))
    return found
