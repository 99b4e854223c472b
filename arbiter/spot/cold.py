"""Cold starts as they were measured: seconds from a launch to the first answer. Pure.

    log of a model's: (n x median of the logarithms + TRUST x log of what is assumed) / (n + TRUST)
    of a model in a place: the same with the place's own, shrunk to that of the model

A median is not moved by one launch that hung, and the shrinking not by one that went well. Launches
that never answered are not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import exp, log
from statistics import median
from typing import NamedTuple

KEPT = 9
"""Newest measurements that are kept of a model in a place."""

TRUST = 2.0
"""Measurements that what is assumed weighs as much as."""

SHORTEST_S, LONGEST_S = 1.0, 86_400.0
"""A measurement beyond these counts as the nearer of them."""

Colds = Mapping[str, tuple[float, ...]]
"""Model and place -> seconds, the newest last."""


class Answered(NamedTuple):
    """A replica answered for the first time.

    Attributes:
        at: when, seconds.
        model: name of the profile.
        place: provider/region.
        took_s: seconds since its launch was asked for.
    """

    at: float
    model: str
    place: str
    took_s: float


def measured(colds: Colds, event: Answered) -> Colds:
    """The measurements with one more."""
    key = _key(event.model, event.place)
    took_s = min(LONGEST_S, max(SHORTEST_S, event.took_s))
    return {**colds, key: (*colds.get(key, ()), took_s)[-KEPT:]}


def cold_s(colds: Colds, model: str, place: str, assumed_s: float) -> float:
    """Seconds from a launch to the first answer that are to be expected.

    Args:
        assumed_s: where nothing is measured.
    """
    return exp(_shrunk(colds.get(_key(model, place), ()), anywhere(colds, model, assumed_s)))


def cold_starts(colds: Colds, model: str, assumed_s: float) -> Callable[[str], float]:
    """`cold_s` of one model, for whoever asks about many places."""
    elsewhere = anywhere(colds, model, assumed_s)
    return lambda place: exp(_shrunk(colds.get(_key(model, place), ()), elsewhere))


def anywhere(colds: Colds, model: str, assumed_s: float) -> float:
    """The logarithm of `cold_s` of a place where nothing is measured of the model."""
    of_model = [one for key, found in colds.items() if _is_of(key, model) for one in found]
    return _shrunk(tuple(of_model), log(max(SHORTEST_S, assumed_s)))


def places(colds: Colds, model: str) -> dict[str, tuple[float, ...]]:
    """Place -> what was measured there of a model."""
    return {
        key.partition("@")[2]: found for key, found in sorted(colds.items()) if _is_of(key, model)
    }


@lru_cache(maxsize=1024)
def _shrunk(found: tuple[float, ...], prior: float) -> float:
    logs = [log(one) for one in found]
    return (len(logs) * median(logs) + TRUST * prior) / (len(logs) + TRUST) if logs else prior


def _key(model: str, place: str) -> str:
    return f"{model}@{place}"


def _is_of(key: str, model: str) -> bool:
    return key.partition("@")[0] == model
