"""Judges every poll of one provider, keeps what it doubts, and lets through the rest.

What is held back leaves the provider's last good prices as they were. They grow older, until the
policy's own limit of age refuses them: a single price does so alone, a region as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from arbiter import gate
from arbiter.difference import difference
from arbiter.gate import Doubt
from arbiter.provider import PricedOffer, Signal
from arbiter.store import past
from arbiter.store.polls import PollRow
from arbiter.store.quarantine import Case, cases, update_cases
from arbiter.trial import Covered, Judged, Memory, Trial


class Gatekeeper:
    """Remembers what one provider's prices were; keep it between polls.

    Another process may poll too, so it knows the newest poll that it has seen, and reads
    everything anew when the database has gone on.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self._memory = Memory()

    def forget(self) -> None:
        """Believe nothing any more: the next poll reads the database. For after an error."""
        self._memory = Memory()

    def judge(
        self,
        connection: Connection,
        offers: Sequence[PricedOffer],
        suspects: Sequence[Doubt],
        covered: Covered,
        row: PollRow,
    ) -> Judged:
        """Separate what may decide from what is only kept, with its reason.

        Must run in the transaction that records the poll; `follow` comes after that.

        Args:
            offers: what is plausible by itself; an object that comes again is not looked at anew.
            suspects: what is not, as `quality` found it.
        """
        self._refresh(connection, row.finished_at)
        memory = self._memory
        quiet = not suspects and not memory.cases and covered == memory.covered
        if quiet and offers is memory.last:
            return Judged(memory.through, covered, row)
        news = difference(memory.last, offers)
        if quiet and len(offers) == len(memory.last) and news == ([], []):
            return Judged(memory.through, covered, row)
        return Trial(self.provider, memory, connection, row).judge(offers, news, suspects, covered)

    def has_stored(self, signals: Sequence[Signal]) -> bool:
        """Whether these are the signals of the poll before, and remember them. After `judge`."""
        before, self._memory.signals = self._memory.signals, signals
        return before is not None and (before is signals or list(before) == list(signals))

    def hold_answer(self, connection: Connection, row: PollRow, samples: Sequence[str]) -> None:
        """Keep samples of an answer of which nothing was used."""
        self._refresh(connection, row.finished_at)
        memory, now = self._memory, row.finished_at
        others = [case for case in memory.cases if case.reason != gate.MALFORMED]
        old = next((case for case in memory.cases if case.reason == gate.MALFORMED), None)
        case = Case(
            self.provider,
            "",
            "",
            gate.MALFORMED,
            old.first_at if old else now,
            now,
            old.polls + 1 if old else 1,
            row.malformed,
            samples=tuple(samples),
        )
        memory.cases = update_cases(connection, memory.cases, [*others, case], now)

    def is_current(self, connection: Connection) -> bool:
        """Whether nobody else has polled since."""
        return past.newest_poll(connection, self.provider) == self._memory.poll_id

    def follow(self, connection: Connection) -> None:
        """The poll is recorded: what was judged is now what the database says."""
        self._memory.poll_id = past.newest_poll(connection, self.provider)

    def _refresh(self, connection: Connection, now: datetime) -> None:
        if self.is_current(connection):
            return
        self._memory = Memory(
            past.newest_poll(connection, self.provider),
            past.last_prices(connection, self.provider, now),
            cases(connection, self.provider),
            frozenset(past.standing_parts(connection, self.provider)),
        )
