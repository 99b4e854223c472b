"""Pools of spot machines, by name: what gives and takes away machines of one kind. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from arbiter.domain import Offer

_Told = TypeVar("_Told")


def pool_of(offer: Offer) -> str:
    """The pool that a spot offer's machines come from: a type of machine in a zone."""
    return pool_named(offer.provider, offer.region, offer.zone, offer.instance_type)


def pool_named(provider: str, region: str, zone: str | None, instance_type: str) -> str:
    """The name of a pool; without a zone, of all of the region's."""
    return f"{provider}/{region}/{zone or '-'}/{instance_type}"


def group_of(offer: Offer) -> str:
    """The region whose pools share bad hours with this offer's."""
    return f"{offer.provider}/{offer.region}"


def told_of(told: Mapping[str, _Told], pools: Iterable[str]) -> dict[str, _Told]:
    """What is told of each of these pools: of itself, or else of all of its region's."""
    found = {}
    of_regions = any("/-/" in name for name in told)
    for pool in pools:
        one = told.get(pool)
        if one is None and of_regions:
            one = told.get(_of_region(pool))
        if one is not None:
            found[pool] = one
    return found


def _of_region(pool: str) -> str:
    provider, region, _, instance_type = (*pool.split("/", 3), "", "", "")[:4]
    return pool_named(provider, region, None, instance_type)
