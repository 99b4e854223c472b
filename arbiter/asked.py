"""Which pools of spot machines are asked about when a launch is chosen. Pure.

All in which anything ever happened, and those with machines of ours. Of the others, those in one
region of which the same is told differ in nothing but the price, so the cheapest stands for all;
once it is taken, by a machine of ours or because it may not be tried, the next one does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal

from arbiter.domain import Candidate
from arbiter.policy import Policy
from arbiter.pools import group_of, pool_of
from arbiter.spot.beliefs import HOUR, Beliefs
from arbiter.spot.cold import cold_starts
from arbiter.spot.situation import Offered
from arbiter.standing import Standing

Kind = tuple[str, str, float]
"""Provider, region, and the factor over the common hazard that is told of its pools."""


class Asked:
    """The pools that are asked about; there may be more of them after each step of a plan."""

    def __init__(
        self,
        standing: Standing,
        policy: Policy,
        beliefs: Beliefs,
        pools: Mapping[str, Candidate],
        unit: Decimal,
    ) -> None:
        """Nothing is asked yet.

        Args:
            pools: all that may be launched in, the cheapest first.
            unit: USD per million tokens that count as 1.
        """
        self._standing, self._beliefs = standing, beliefs
        self._cold_s = cold_starts(beliefs.colds, standing.profile.name, policy.cold_start_s)
        self._pools, self._unit = pools, unit
        self._rank = {name: number for number, name in enumerate(pools)}
        self._cold_starts: dict[str, float] = {}
        self._offered: dict[str, Offered] = {}
        self._alike: dict[Kind, Iterator[str]] = {}
        self._stands: dict[Kind, str | None] = {}

    @property
    def offered(self) -> tuple[Offered, ...]:
        """All that are asked about."""
        return tuple(self._offered.values())

    def begin(self, refused: Collection[str]) -> None:
        """Ask about those that are worth it.

        Args:
            refused: pools that may not be tried.
        """
        tried = self._beliefs.pools
        alike: dict[Kind, list[str]] = {}
        for name in self._pools:
            if name not in tried:
                alike.setdefault(self._kind(name), []).append(name)
        self._alike = {kind: iter(names) for kind, names in alike.items()}
        held = {pool_of(one.offer) for one in self._standing.machines}
        asked = {*tried, *held}
        for kind in self._alike:
            self._stands[kind] = found = self._next(kind, asked, refused)
            asked.add(found or "")
        self._ask(name for name in self._pools if name in asked)

    def taken(self, name: str, refused: Collection[str]) -> list[Offered]:
        """What is asked about now that a pool has a machine of ours more, or may not be tried."""
        found = [] if name in self._offered else [name]
        kind = None if name in self._beliefs.pools else self._kind(name)
        if kind is not None and self._stands[kind] == name:
            self._stands[kind] = other = self._next(kind, self._offered, refused)
            found += [] if other is None else [other]
        return self._ask(found)

    def cold_h(self, candidate: Candidate | None) -> float:
        """Hours from a launch to the first answer, as measured in that region or elsewhere."""
        return self._cold_h("" if candidate is None else group_of(candidate.quote.offer))

    def _cold_h(self, group: str) -> float:
        if group not in self._cold_starts:
            self._cold_starts[group] = self._cold_s(group) / HOUR
        return self._cold_starts[group]

    def _kind(self, name: str) -> Kind:
        offer, seed = self._pools[name].quote.offer, self._beliefs.seeds.get(name)
        return offer.provider, offer.region, seed.factor if seed else 1.0

    def _next(self, kind: Kind, asked: Collection[str], refused: Collection[str]) -> str | None:
        """The cheapest of those alike that is not asked about yet, and may be tried."""
        left = self._alike[kind]
        return next((one for one in left if one not in asked and one not in refused), None)

    def _ask(self, names: Iterable[str]) -> list[Offered]:
        found = [self._offer(name) for name in names]
        self._offered.update((one.name, one) for one in found)
        return found

    def _offer(self, name: str) -> Offered:
        candidate = self._pools[name]
        offer, group = candidate.quote.offer, group_of(candidate.quote.offer)
        return Offered(
            name,
            group,
            float(candidate.usd_per_mtok / self._unit),
            self._cold_h(group),
            self._standing.notice_s.get(offer.provider, 0.0) / HOUR,
            self._rank[name],
        )
