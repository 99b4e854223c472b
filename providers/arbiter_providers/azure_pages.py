"""Azure's pages from poll to poll: what came before, byte for byte, is not read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, compress, count
from operator import is_, ne
from typing import NamedTuple

from arbiter.domain import Purchase
from arbiter.provider import Page, PricedOffer, Skip
from arbiter_providers.azure_rows import NOT_GPU, Line, open_page, read_row

_FUTURE = Skip("not valid yet")
_EXPIRED = Skip("no longer valid")
_OLDER = Skip("older row of the same offer")
_ELSEWHERE = Skip("region that was not asked for")

_Key = tuple[str, str, Purchase]
_Rows = dict[bytes, Line | Skip]


class Sold(NamedTuple):
    """What pages of prices say.

    Attributes:
        more: of each region that was asked for, whether its last page has a link to another one.
    """

    offers: tuple[PricedOffer, ...]
    skips: tuple[Skip, ...]
    more: Mapping[str, bool]


class _Choice(NamedTuple):
    """Of some rows, the newest for each offer that holds from `since` until before `until`."""

    best: Mapping[_Key, PricedOffer]
    skips: tuple[Skip, ...]
    since: datetime
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Whether no row begins or ends between then and now."""
        return self.since <= now and (self.until is None or now < self.until)


@dataclass(slots=True)
class _Read:
    """A page that was read.

    Attributes:
        rows: by their bytes, each once; without those of machines that have no GPU.
        others: how many these are.
    """

    body: object
    rows: _Rows
    others: int
    more: bool
    choice: _Choice | None = field(default=None)


class Pages:
    """The pages of the last poll, by region and number.

    Args:
        only: the regions that are kept; empty is all.
    """

    def __init__(self, only: frozenset[str]) -> None:
        self._only = only
        self._reads: dict[tuple[str, int], _Read] = {}
        self._choices: list[_Choice] = []
        self._sold = Sold((), (), {})

    def read(self, pages: Iterable[Page], now: datetime) -> Sold:
        """The offers whose price holds now; of several rows for one, the newest.

        What has not changed is the same objects again.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        reads: dict[tuple[str, int], _Read] = {}
        numbers: dict[str, int] = {}
        for page in pages:
            number = numbers[page.region] = numbers.get(page.region, 0) + 1
            place = page.region, number
            known = self._reads.get(place)
            if known is None or known.body != page.body:
                known = _read(page.body, known, now)
            reads[place] = known
        choices = [self._chosen(read, now) for read in reads.values()]
        if len(choices) != len(self._choices) or not all(map(is_, choices, self._choices)):
            self._sold = self._joined(reads, choices, now)
        self._reads, self._choices = reads, choices
        return self._sold

    def _chosen(self, read: _Read, now: datetime) -> _Choice:
        if read.choice is None or not read.choice.holds(now):
            read.choice = _choose(read.rows.values(), self._only, now)
        return read.choice

    def _joined(
        self, reads: Mapping[tuple[str, int], _Read], choices: list[_Choice], now: datetime
    ) -> Sold:
        best: dict[_Key, PricedOffer] = {}
        for choice in choices:
            best.update(choice.best)
        skips = [*chain.from_iterable(choice.skips for choice in choices)]
        # An offer may have rows on several pages, and a row that is none may come again.
        overlap = len(best) < sum(len(choice.best) for choice in choices)
        if overlap or skips:
            rows: _Rows = {}
            for read in reads.values():
                rows.update(read.rows)
            if overlap or len(rows) < sum(len(read.rows) for read in reads.values()):
                whole = _choose(rows.values(), self._only, now)
                best, skips = dict(whole.best), list(whole.skips)
        skips += [NOT_GPU] * sum(read.others for read in reads.values())
        more = {region: read.more for (region, _), read in reads.items()}
        return Sold(tuple(best.values()), tuple(skips), more)


def _read(body: object, before: _Read | None, now: datetime) -> _Read:
    """A page, of which some rows may be known from what stood in its place."""
    raws, link = open_page(body)
    known = before.rows if before else {}
    if before and len(known) == len(raws):
        # An unchanged row stands where it stood: to compare it costs less than to look it up.
        keys, entries = list(known), list(known.values())
        new = list(compress(count(), map(ne, raws, keys)))
        found = [known.get(raws[place]) or read_row(raws[place]) for place in new]
        if not any(entry is NOT_GPU for entry in found):
            changes = [(entries[place], entry) for place, entry in zip(new, found, strict=True)]
            for place, entry in zip(new, found, strict=True):
                keys[place], entries[place] = raws[place], entry
            rows = dict(zip(keys, entries, strict=True))
            choice = _amended(before.choice, changes, now) if len(rows) == len(raws) else None
            return _Read(body, rows, 0, bool(link), choice)
    rows = {}
    others = 0
    for raw in raws:
        entry = known.get(raw) or read_row(raw)
        if entry is NOT_GPU:
            others += 1
        else:
            rows[raw] = entry
    return _Read(body, rows, others, bool(link))


def _amended(
    choice: _Choice | None, changes: Iterable[tuple[Line | Skip, Line | Skip]], now: datetime
) -> _Choice | None:
    """The choice with some rows in the place of others; None where all have to be looked at."""
    if choice is None or not choice.holds(now) or _OLDER in choice.skips:
        return None
    best, until = dict(choice.best), choice.until
    for old, new in changes:
        if isinstance(old, Skip) or isinstance(new, Skip) or old.key != new.key:
            return None
        if best.get(old.key) is not old.offer or not new.holds(now):
            return None
        best[new.key] = new.offer
        if new.ends is not None and (until is None or new.ends < until):
            until = new.ends
    return _Choice(best, choice.skips, choice.since, until)


def _choose(entries: Iterable[Line | Skip], only: frozenset[str], now: datetime) -> _Choice:
    best: dict[_Key, Line] = {}
    skips: list[Skip] = []
    until: datetime | None = None
    for entry in entries:
        if isinstance(entry, Skip):
            skips.append(entry)
            continue
        for instant in (entry.starts, entry.ends):
            if instant is not None and instant > now and (until is None or instant < until):
                until = instant
        if entry.starts > now:
            skips.append(_FUTURE)
        elif entry.ends is not None and now >= entry.ends:
            skips.append(_EXPIRED)
        elif only and entry.offer.region not in only:
            skips.append(_ELSEWHERE)
        elif entry.key not in best:
            best[entry.key] = entry
        else:
            skips.append(_OLDER)
            best[entry.key] = max(entry, best[entry.key], key=lambda line: line.rank)
    chosen = {key: line.offer for key, line in best.items()}
    return _Choice(chosen, tuple(skips), now, until)
