"""Every change of a price in a window: what was listed, what changed, what was withdrawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from arbiter.prices.chosen import About, Chosen, Market, choose, in_unit
from arbiter.prices.question import Question
from arbiter.prices.stats import amount
from arbiter.prices.steps import Flags, Ints, Steps


@dataclass(frozen=True, slots=True)
class Change:
    """One event of one series. Prices are per hour, in the answer's currency and unit.

    Attributes:
        kind: "changed"; "listed" where it came on sale (or was first seen); "withdrawn".
        before, after: None where it was not on sale.
        ratio: after / before - 1, of the prices as the provider lists them.
    """

    at: datetime
    kind: str
    provider: str
    region: str
    zone: str
    instance_type: str
    gpu: str
    gpu_count: int
    purchase: str
    tier: str
    before: Decimal | None
    after: Decimal | None
    ratio: float | None


@dataclass(frozen=True, slots=True)
class ChangesAnswer:
    """The answer of `arbiter prices changes`, newest first.

    Attributes:
        total: how many there were; `changes` may hold fewer.
    """

    about: About
    total: int
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class _Events:
    """Columns: the instant, the row of `listed` before it and the one after it (-1 is none)."""

    at: Ints
    before: Ints
    after: Ints


def changes(market: Market, question: Question, limit: int | None = None) -> ChangesAnswer:
    """The changes of the chosen series, each in the currency by the rate of its own day.

    Args:
        limit: at most so many, the newest.

    Raises:
        ArbiterError: nothing is recorded of it, or prices cannot be said in one currency.
    """
    chosen = choose(market, question)
    events = _events(chosen)
    newest = np.lexsort((np.maximum(events.after, events.before), -events.at))
    total = len(newest)
    kept = newest[: total if limit is None else limit]
    events = _Events(events.at[kept], events.before[kept], events.after[kept])
    before = _in_unit(market, chosen, events.before, events.at)
    after = _in_unit(market, chosen, events.after, events.at)
    rows = [_change(chosen, events, number, before, after) for number in range(len(kept))]
    return ChangesAnswer(chosen.about, total, rows)


def _events(chosen: Chosen) -> _Events:
    """Where a row begins, and where one ends and none follows at once."""
    listed, window = chosen.listed, chosen.question.window
    rows = np.arange(len(listed))
    follows = np.zeros(len(listed), np.bool_)
    follows[1:] = (listed.line[1:] == listed.line[:-1]) & (listed.begin[1:] == listed.end[:-1])
    same = np.zeros(len(listed), np.bool_)
    same[1:] = follows[1:] & (listed.micros[1:] == listed.micros[:-1])
    begins = ~same & _inside(listed.begin, window.begin, window.end)
    left = ~np.append(follows[1:], False) & ~chosen.stands
    left &= _inside(listed.end, window.begin, window.end)
    return _Events(
        np.concatenate((listed.begin[begins], listed.end[left])),
        np.concatenate((np.where(follows[begins], rows[begins] - 1, -1), rows[left])),
        np.concatenate((rows[begins], np.full(int(left.sum()), -1))),
    )


def _inside(instants: Ints, begin: int, end: int) -> Flags:
    inside: Flags = (instants >= begin) & (instants < end)
    return inside


def _in_unit(market: Market, chosen: Chosen, rows: Ints, at: Ints) -> list[int | None]:
    """The price of each row, converted as of an instant; None where there is no row."""
    there = np.flatnonzero(rows >= 0)
    found: list[int | None] = [None] * len(rows)
    if not len(there):
        return found
    some = rows[there]
    listed = chosen.listed
    moments = Steps(listed.line[some], at[there], at[there] + 1, listed.micros[some])
    unit = replace(chosen.question, currency=chosen.about.currency)
    priced, _ = in_unit(market, unit, chosen.lines, moments)
    for place, micros in zip(there.tolist(), priced.micros.tolist(), strict=True):
        found[place] = micros
    return found


def _change(
    chosen: Chosen,
    events: _Events,
    number: int,
    before: list[int | None],
    after: list[int | None],
) -> Change:
    old, new = int(events.before[number]), int(events.after[number])
    line = chosen.lines[int(chosen.listed.line[max(old, new)])]
    ratio = None
    if old >= 0 and new >= 0:
        ratio = round(int(chosen.listed.micros[new]) / int(chosen.listed.micros[old]) - 1, 6)
    return Change(
        datetime.fromtimestamp(int(events.at[number]), UTC),
        "withdrawn" if new < 0 else "listed" if old < 0 else "changed",
        line.provider,
        line.region,
        line.zone,
        line.instance_type,
        line.gpu,
        line.gpu_count,
        line.purchase,
        line.tier,
        amount(before[number]),
        amount(after[number]),
        ratio,
    )
