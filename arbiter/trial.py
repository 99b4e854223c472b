"""One poll under judgement: what is doubted, since when, and what is let through in its place."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection

from arbiter import gate
from arbiter.domain import Purchase
from arbiter.gate import Doubt, Known, Move, Part, SeriesKey, series_key
from arbiter.held_lines import places, single_lines
from arbiter.provider import PricedOffer, Signal
from arbiter.store import past
from arbiter.store.past import SeriesPast
from arbiter.store.polls import PollRow
from arbiter.store.quarantine import Case, HeldRow, note_believed, update_cases

Covered = frozenset[tuple[str, Purchase]]
News = tuple[Sequence[PricedOffer], Sequence[PricedOffer]]
"""The offers that the last poll had and this one has not; and the other way round."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What may be recorded of a poll.

    Attributes:
        offers: what is believed, and for every doubted series its last good price, so that it
            stands on. The same object when the same poll comes again.
        covered: what was seen whole, without what is held back as a whole.
        row: the account of the poll, with what is held back.
    """

    offers: Sequence[PricedOffer]
    covered: Covered
    row: PollRow


@dataclass(slots=True)
class Memory:
    """One provider as of the poll `poll_id`.

    Attributes:
        past: the last believed price of every series, micros.
        cases: the doubts that stand.
        present: the parts in which prices stand; here: those that the newest poll had offers in.
        last, covered: what the newest poll brought.
        doubted: of those, what was held back; by id, for the objects live on in `last`.
        through: what was let through, as one object.
        stand_ins: last good prices that were passed on in place of doubted ones.
        signals: what the newest poll said of capacity.
    """

    poll_id: int | None = -1
    past: dict[SeriesKey, int] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    present: frozenset[Part] = frozenset()
    here: frozenset[Part] = frozenset()
    last: Sequence[PricedOffer] = ()
    covered: Covered = frozenset()
    doubted: frozenset[int] = frozenset()
    through: Sequence[PricedOffer] = ()
    stand_ins: Mapping[SeriesKey, PricedOffer] = field(default_factory=dict)
    signals: Sequence[Signal] | None = None


class Trial:
    """One poll under judgement: what it doubts, and for how long already."""

    def __init__(self, provider: str, memory: Memory, connection: Connection, row: PollRow) -> None:
        self._provider = provider
        self._memory = memory
        self._connection = connection
        self._row = row
        self._now = row.finished_at
        self._before = {case.key: case for case in memory.cases}
        self._rows_before = {_row_key(one): one for case in memory.cases for one in case.rows}
        self._after: list[Case] = []
        self._lines: list[str] = []
        self._counts: Counter[str] = Counter()

    def judge(
        self,
        offers: Sequence[PricedOffer],
        news: News,
        suspects: Sequence[Doubt],
        covered: Covered,
    ) -> Judged:
        """The verdict, written to the database and to the memory."""
        memory = self._memory
        new = news[1]
        if memory.doubted:
            fresh = memory.doubted.union(map(id, new))
            new = [one for one in offers if id(one) in fresh]
        moved = gate.moves(new, memory.past)
        slipped = self._slipped(offers, moved)
        here = self._here(offers, news[0], new) | {_part(one.offer) for one in suspects}
        parts = {(region, purchase.value) for region, purchase in covered}
        closed = self._hold_parts(slipped, offers)
        closed |= self._hold_emptied(parts, here)
        alone = [one for one in suspects if _part(one.offer) not in slipped]
        singles = self._doubts([one for one in moved if _part(one.offer) not in slipped], alone)
        held, stand_ins = self._hold_singles(singles)
        pardoned = [one.offer for one in suspects if one.key not in held]
        pardoned = [one for one in pardoned if _part(one) not in closed]
        out = frozenset(
            id(one)
            for one in (offers if closed or held else ())
            if _part(one) in closed or (held and series_key(one) in held)
        )
        through = self._through(offers, news, out, stand_ins, pardoned)
        self._carry_over(here | parts)
        memory.cases = update_cases(self._connection, memory.cases, self._after, self._now)
        memory.past.update(
            (series_key(one), one.price.micros) for one in (*new, *pardoned) if id(one) not in out
        )
        gone = parts - here - closed
        memory.present = (memory.present - gone) | here
        memory.last, memory.covered = offers, covered
        memory.doubted, memory.through, memory.stand_ins = out, through, stand_ins
        seen = covered
        if closed:
            seen = frozenset(one for one in covered if (one[0], one[1].value) not in closed)
        return Judged(through, seen, self._account())

    def _here(
        self,
        offers: Sequence[PricedOffer],
        gone: Sequence[PricedOffer],
        new: Sequence[PricedOffer],
    ) -> frozenset[Part]:
        """The parts that have offers: those of the last poll, where none can have lost its all."""
        memory = self._memory
        present = _parts(new)
        if not memory.last or not _parts(gone) <= present:
            memory.here = frozenset(_parts(offers))
        else:
            memory.here |= present
        return memory.here

    # --- parts ----------------------------------------------------------------------------------

    def _slipped(self, offers: Sequence[PricedOffer], moved: Sequence[Move]) -> dict[Part, str]:
        """The parts whose prices moved together in a way that prices do not."""

        def known() -> Known:
            everything: Counter[Part] = Counter()
            large: Counter[Part] = Counter()
            for offer in offers:
                if series_key(offer) in self._memory.past:
                    everything[_part(offer)] += 1
                    large[_part(offer)] += offer.gpu_count > 1
            return Known(everything, large)

        parts = gate.slipped_parts(moved, known)
        if gate.moved_by_one_factor(moved, len(offers)):
            for part in _parts(offers):
                parts.setdefault(part, gate.ONE_FACTOR)
        return parts

    def _hold_parts(self, slipped: Mapping[Part, str], offers: Sequence[PricedOffer]) -> set[Part]:
        """Hold back whole parts; returns those that are still not believed."""
        if not slipped:
            return set()
        seen = past.seen(self._connection, self._provider)
        by_part: dict[Part, list[PricedOffer]] = defaultdict(list)
        for offer in offers:
            if _part(offer) in slipped:
                by_part[_part(offer)].append(offer)
        held: dict[str, list[Part]] = defaultdict(list)
        for part, reason in sorted(slipped.items()):
            rows = tuple(
                self._held_row(series_key(one), one, seen.get(part)) for one in by_part[part]
            )
            case = self._case(part, reason, len(rows), rows)
            if self._is_over(case):
                note_believed(self._connection, _believed(case), self._now)
                continue
            self._after.append(case)
            held[reason].append(part)
            self._counts[reason] += len(rows)
        for reason, parts in held.items():
            count = sum(len(by_part[part]) for part in parts)
            self._lines.append(f"{places(parts)}: {count} prices held back: {reason}")
        return {part for parts in held.values() for part in parts}

    def _hold_emptied(self, covered: set[Part], here: frozenset[Part]) -> set[Part]:
        """Parts that had prices and now answered with none: not believed at once."""
        emptied = (covered & self._memory.present) - here
        if not emptied:
            return set()
        standing = past.standing_parts(self._connection, self._provider)
        waiting = set()
        for part in sorted(emptied & standing.keys()):
            case = self._case(part, gate.EMPTY, standing[part])
            if self._is_over(case):
                note_believed(self._connection, _believed(case), self._now)
                continue
            self._after.append(case)
            waiting.add(part)
        if waiting:
            count = sum(standing[part] for part in waiting)
            self._lines.append(
                f"{places(sorted(waiting))}: answered with no prices where {count} stood, "
                "which are kept and grow older"
            )
        return waiting

    def _case(self, part: Part, reason: str, offers: int, rows: tuple[HeldRow, ...] = ()) -> Case:
        old = self._before.get((*part, reason))
        first_at, polls = (old.first_at, old.polls + 1) if old else (self._now, 1)
        return Case(self._provider, *part, reason, first_at, self._now, polls, offers, rows=rows)

    def _is_over(self, case: Case) -> bool:
        patience = gate.PATIENCE[case.reason]
        stood = (self._now - case.first_at).total_seconds()
        return patience is not None and patience.is_over(case.polls, stood)

    # --- single prices --------------------------------------------------------------------------

    def _doubts(self, moved: Sequence[Move], suspects: Sequence[Doubt]) -> list[_Single]:
        """What is doubted alone, with what is known of it; nothing is asked where nothing is."""
        far = [one for one in moved if gate.is_far(one)]
        doubted = [one for one in suspects if not self._is_its_own(one)]
        if not far and not doubted:
            return []
        keys = [*(one.key for one in far), *(one.key for one in doubted)]
        pasts = past.series_pasts(self._connection, self._provider, keys, self._now)
        peers = past.peer_prices(self._connection, (one.offer for one in far))
        nothing = SeriesPast(None, None, None)
        found = []
        for move in far:
            offer, known = move.offer, pasts.get(move.key, nothing)
            kind = (offer.gpu, offer.purchase.value, offer.price.currency)
            others = [
                micros
                for provider, key, micros in peers[kind]
                if (provider, key) != (self._provider, move.key)
            ]
            agree = gate.agreement(offer, others)
            reason = gate.doubt(move, known.lowest, known.highest, agree)
            if reason is not None:
                found.append(_Single(Doubt(move.key, offer, reason), agree, known.standing))
        for one in doubted:
            found.append(_Single(one, None, pasts.get(one.key, nothing).standing))
        return found

    def _is_its_own(self, suspect: Doubt) -> bool:
        """Whether a price far from its peers is what the series was believed to cost before."""
        before = self._memory.past.get(suspect.key)
        if before is None or suspect.reason != gate.FAR_FROM_PEERS:
            return False
        micros = suspect.offer.price.micros
        return not gate.is_far(Move(suspect.key, suspect.offer, before, micros / before))

    def _hold_singles(
        self, singles: Sequence[_Single]
    ) -> tuple[frozenset[SeriesKey], Mapping[SeriesKey, PricedOffer]]:
        """Hold back single prices; returns them, and the last good prices that stand for them."""
        if not singles:
            return frozenset(), {}
        seen = past.seen(self._connection, self._provider)
        held: dict[tuple[str, str, str], list[tuple[HeldRow, _Single]]] = defaultdict(list)
        believed: dict[tuple[str, str, str], list[HeldRow]] = defaultdict(list)
        for single in singles:
            doubt = single.doubt
            part = _part(doubt.offer)
            stood = seen.get(part) if single.standing else None
            row = self._held_row(doubt.key, doubt.offer, stood)
            patience = gate.patience(doubt.reason, single.agree)
            if patience and patience.is_over(row.polls, self._now.timestamp() - row.since):
                believed[*part, doubt.reason].append(row)
            else:
                held[*part, doubt.reason].append((row, single))
        for (region, purchase, reason), rows in believed.items():
            case = replace(
                self._case((region, purchase), reason, len(rows), tuple(rows)),
                polls=max(row.polls for row in rows),
                first_at=datetime.fromtimestamp(min(row.since for row in rows), UTC),
            )
            note_believed(self._connection, _believed(case), self._now)
        for (region, purchase, reason), pairs in sorted(held.items()):
            rows_held = tuple(row for row, _ in pairs)
            self._after.append(self._case((region, purchase), reason, len(pairs), rows_held))
            self._counts[reason] += len(pairs)
        self._lines += single_lines(
            (single.doubt.reason, row) for pairs in held.values() for row, single in pairs
        )
        standing = [single for pairs in held.values() for _, single in pairs if single.standing]
        known = self._memory.stand_ins
        stand_ins = {
            one.doubt.key: known[one.doubt.key]
            if known.get(one.doubt.key) == one.standing
            else one.standing
            for one in standing
            if one.standing is not None
        }
        keys = frozenset(single.doubt.key for pairs in held.values() for _, single in pairs)
        return keys, stand_ins

    def _held_row(self, key: SeriesKey, offer: PricedOffer, seen_at: int | None) -> HeldRow:
        """An offer as it is kept: with when its doubt began, if it is still the same price."""
        old, micros, now = self._rows_before.get(key), offer.price.micros, self._now.timestamp()
        if old is None:
            first, since, polls = micros, int(now), 1
        else:
            seen_at = old.seen_at
            first, since, polls = old.first_micros, old.since, old.polls + 1
            if not gate.is_same(micros, first):
                first, since, polls = micros, int(now), 1
        return HeldRow(
            *key,
            offer.gpu,
            offer.gpu_count,
            offer.source,
            micros,
            first,
            self._memory.past.get(key),
            seen_at,
            since,
            polls,
        )

    # --- the rest -------------------------------------------------------------------------------

    def _through(
        self,
        offers: Sequence[PricedOffer],
        news: News,
        out: frozenset[int],
        stand_ins: Mapping[SeriesKey, PricedOffer],
        pardoned: Sequence[PricedOffer],
    ) -> Sequence[PricedOffer]:
        """What may be recorded: the same object as last time where it is the same."""
        memory = self._memory
        if not out and not stand_ins and not pardoned:
            return offers
        same = news == ([], []) and out == memory.doubted and not pardoned
        if same and stand_ins == memory.stand_ins:
            return memory.through
        kept = [one for one in offers if id(one) not in out]
        return (*kept, *pardoned, *stand_ins.values())

    def _carry_over(self, looked_at: AbstractSet[Part]) -> None:
        """A doubt of a part that this poll has not seen stands on."""
        done = {case.key for case in self._after}
        self._after += [
            case
            for case in self._before.values()
            if case.key not in done
            and case.reason != gate.MALFORMED
            and (case.region, case.purchase) not in looked_at
        ]

    def _account(self) -> PollRow:
        row = self._row
        if not self._lines:
            return row
        return replace(
            row,
            state="degraded",
            reasons=(*row.reasons, *self._lines),
            skips=dict(Counter(row.skips) + self._counts),
            malformed=row.malformed + self._counts.total(),
        )


class _Single(NamedTuple):
    """A doubt of one price, whether its peers are on its side, and what stands of its series."""

    doubt: Doubt
    agree: bool | None
    standing: PricedOffer | None


def _part(offer: PricedOffer) -> Part:
    return offer.region, offer.purchase.value


def _parts(offers: Iterable[PricedOffer]) -> set[Part]:
    pairs = {(offer.region, offer.purchase) for offer in offers}
    return {(region, purchase.value) for region, purchase in pairs}


def _row_key(row: HeldRow) -> SeriesKey:
    return row.tier, row.region, row.zone, row.instance_type, row.purchase, row.currency


def _believed(case: Case) -> Case:
    """The record of a doubt that has run its time."""
    hours = (case.last_at - case.first_at).total_seconds() / 3600
    return replace(
        case, reason=f"{case.reason}; believed after {case.polls} polls in {hours:.1f} h"
    )
