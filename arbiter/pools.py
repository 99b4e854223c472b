"""Pools of spot machines, by name: what gives and takes away machines of one kind. Pure."""

from __future__ import annotations

from arbiter.domain import Offer


def pool_of(offer: Offer) -> str:
    """The pool that a spot offer's machines come from: a type of machine in a zone."""
    return f"{offer.provider}/{offer.region}/{offer.zone or '-'}/{offer.instance_type}"


def group_of(offer: Offer) -> str:
    """The region whose pools share bad hours with this offer's."""
    return f"{offer.provider}/{offer.region}"
