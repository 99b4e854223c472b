"""One poll: fetch, parse, screen, store. A provider that fails harms nobody but itself."""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import PurePath
from queue import SimpleQueue

from sqlalchemy import Connection

from arbiter import registry
from arbiter.clock import Clock
from arbiter.errors import ProviderError, RateLimited, StoreError
from arbiter.garbage import uncollected
from arbiter.gate import Doubt
from arbiter.gatekeeper import Gatekeeper
from arbiter.provider import Parsed, PricedOffer, Progress, Provider, Skip
from arbiter.quality import are_names, malformed
from arbiter.screening import Screened, storable
from arbiter.settings import Settings
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook, write_poll
from arbiter.store.signals import beat, write_signals

SUSPECT_ROWS = 10
"""A poll of fewer rows is not judged by its share of malformed ones."""

SAMPLES = 200
"""Rows that are kept of an answer of which nothing is used."""

_NOTHING = Parsed(())


@dataclass(frozen=True, slots=True)
class Brought:
    """What a poll brought, before any of it is stored.

    Attributes:
        offers: what is plausible by itself; suspects: what is not.
        samples: of an answer of which nothing is used.
    """

    row: PollRow
    parsed: Parsed = _NOTHING
    offers: Sequence[PricedOffer] = ()
    suspects: Sequence[Doubt] = ()
    samples: tuple[str, ...] = ()


def poll_provider(
    provider: Provider,
    store: Store,
    book: PriceBook,
    clock: Clock,
    progress: Progress,
    keeper: Gatekeeper | None = None,
) -> PollRow:
    """Poll one provider and store what changed.

    The network is asked before the transaction begins. Whatever goes wrong with the provider is in
    the row: its state is "failed" or "degraded", with the reasons.

    Args:
        provider, book, keeper: keep them between polls: they recognise what has not changed.

    Raises:
        StoreError: the database failed; nothing of this poll was written.
    """
    brought = ask(provider, book, clock, progress)
    return record(brought, store, book, keeper or Gatekeeper(provider.name), clock)


def record(
    brought: Brought, store: Store, book: PriceBook, keeper: Gatekeeper, clock: Clock
) -> PollRow:
    """Judge what a poll brought, and store it, in one transaction.

    Raises:
        StoreError: the database failed; nothing of this poll was written.
    """
    started = brought.row.started_at
    row = replace(brought.row, finished_at=max(started, clock.now()))  # a clock may be set back
    try:
        with store.begin() as connection:
            if row.state == "failed":
                current = keeper.is_current(connection)
                if brought.samples:
                    keeper.hold_answer(connection, row, brought.samples)
                write_poll(connection, row)
                if current:
                    keeper.follow(connection)
            else:
                book.refresh(connection)  # from here on no other process writes prices
                with uncollected():
                    row = _write(connection, replace(brought, row=row), book, keeper)
                keeper.follow(connection)
            return row
    except BaseException:
        book.forget()
        keeper.forget()
        raise


def _write(
    connection: Connection, brought: Brought, book: PriceBook, keeper: Gatekeeper
) -> PollRow:
    """Judge and write what a poll brought that has not failed; returns its row as written."""
    row, parsed = brought.row, brought.parsed
    judged = keeper.judge(connection, brought.offers, brought.suspects, parsed.covered, row)
    if keeper.has_stored(parsed.signals):
        beat(connection, row.provider, parsed.signal_kinds, row.finished_at)
    else:
        write_signals(connection, row.provider, parsed, row.finished_at)
    return book.record(connection, judged.offers, judged.covered, judged.row)


def poll_providers(
    names: Sequence[str],
    settings: Settings,
    store: Store,
    clock: Clock,
    progress: Mapping[str, Progress],
) -> Iterator[PollRow]:
    """Poll several providers side by side; rows come as they finish, at the latest by deadline.

    Raises:
        UnknownName: a name is not in the registry; then nothing is polled.
        StoreError: the database failed for one of them, after the rows of all the others.
    """
    providers = [registry.load(name, settings.provider(name)) for name in names]
    done: SimpleQueue[PollRow | BaseException] = SimpleQueue()

    def poll(provider: Provider) -> None:
        name = provider.name
        asker = Asker(provider, clock, settings.provider(name).deadline_s)
        try:
            brought = asker.ask(progress.get(name, _silent))
            done.put(record(brought, store, asker.book, Gatekeeper(name), clock))
        except BaseException as error:  # noqa: BLE001  it is raised where the rows are taken
            done.put(error)

    for provider in providers:  # nobody waits for a silent one after Ctrl-C
        threading.Thread(target=poll, args=(provider,), daemon=True).start()
    failure: StoreError | None = None
    for _ in providers:
        outcome = done.get()
        if isinstance(outcome, StoreError):
            failure = failure or outcome
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            yield outcome
    if failure is not None:
        raise failure


class Asker:
    """Asks one provider, no longer than a deadline.

    What hangs cannot be ended, only left behind: its result is thrown away when it comes, and the
    provider is not asked a second time before that. So at most one thread of a provider is lost.

    Attributes:
        book: remembers the prices; it is kept between polls.
    """

    def __init__(self, provider: Provider, clock: Clock, deadline_s: float) -> None:
        self._provider = provider
        self._clock = clock
        self._deadline_s = deadline_s
        self._left: tuple[threading.Thread, datetime] | None = None
        self._numbers = count(1)
        self.book = PriceBook(provider.name)

    def ask(self, progress: Progress) -> Brought:
        """What the provider brought in time; otherwise a failed poll that says so."""
        began = self._clock.now()
        if self._left is not None and self._left[0].is_alive():
            since = clock_time(self._left[1])
            return self._failed(began, f"the poll of {since} still hangs; nothing new was asked")
        self._left = None
        call = _Call(self._provider, self.book, self._clock, progress)
        name = f"ask {self._provider.name} {next(self._numbers)}"
        thread = threading.Thread(target=call.run, name=name, daemon=True)
        thread.start()
        thread.join(self._deadline_s)
        brought = call.taken()
        if brought is not None:
            return brought
        self._left = (thread, began)
        self.book = PriceBook(self._provider.name)  # the other one may still be written to
        return self._failed(
            began, f"no result within {self._deadline_s:g} s; what comes later is discarded"
        )

    def _failed(self, began: datetime, why: str) -> Brought:
        name = self._provider.name
        row = PollRow(name, began, self._clock.now(), "failed", reasons=(f"{name}: {why}",))
        return Brought(row)


class _Call:
    """One question in a thread of its own: its answer is taken once, or never."""

    def __init__(
        self, provider: Provider, book: PriceBook, clock: Clock, progress: Progress
    ) -> None:
        self._parts = (provider, book, clock)
        self._progress: Progress | None = progress
        self._brought: Brought | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Ask; `ask` lets no error out."""
        brought = ask(*self._parts, self._note)
        with self._lock:
            if self._progress is not None:
                self._brought = brought

    def taken(self) -> Brought | None:
        """The answer if it is there; from now on neither it nor progress is heard of."""
        with self._lock:
            self._progress = None
            return self._brought

    def _note(self, text: str) -> None:
        with self._lock:
            progress = self._progress
        if progress is not None:
            progress(text)


def ask(provider: Provider, book: PriceBook, clock: Clock, progress: Progress) -> Brought:
    """Fetch, parse and screen: no database in here, and no error comes out."""
    started = clock.now()
    row = PollRow(provider.name, started, started, "failed")
    try:
        fetched = provider.fetch(progress)
        with uncollected():
            parsed = provider.parse(fetched, clock.now())
            screened = book.screening.screen(parsed.offers)
    except ProviderError as error:
        wait_s = error.retry_after if isinstance(error, RateLimited) else None
        return Brought(replace(row, reasons=(_one_line(str(error)),), wait_s=wait_s))
    except Exception as error:  # noqa: BLE001  a provider's bug must not stop the others
        return Brought(replace(row, reasons=(_bug(provider.name, error),)))
    skips = (*parsed.skips, *screened.unnamed)
    wrong = sum(1 for skip in skips if skip.malformed)
    row = replace(row, skips=dict(Counter(skip.reason for skip in skips)), malformed=wrong)
    doubtful = wrong + len(screened.left_out)
    rows = doubtful + len(screened.kept)
    if rows >= SUSPECT_ROWS and doubtful > rows / 2:
        return _refused(row, skips, screened, rows)
    reasons = tuple(map(_one_line, (*fetched.degraded, *fetched.notes)))
    row = replace(row, state="degraded" if fetched.degraded else "ok", reasons=reasons)
    covered = frozenset(part for part in parsed.covered if are_names(part[0]))
    parsed = replace(parsed, signals=storable(parsed.signals), covered=covered)
    return Brought(row, parsed, screened.kept, screened.left_out)


def _refused(row: PollRow, skips: Sequence[Skip], screened: Screened, rows: int) -> Brought:
    """Nothing of an answer is used when more than half of it cannot be right."""
    wrong = [skip for skip in skips if skip.malformed]
    wrong += [malformed(one.reason, one.offer) for one in screened.left_out]
    counted = Counter(skip.reason for skip in wrong)
    worst = counted.most_common(1)[0][0]
    reason = f"{len(wrong)} of {rows} rows are malformed ({worst}); none was used"
    added = Counter(one.reason for one in screened.left_out)
    row = replace(
        row,
        reasons=(reason,),
        skips=dict(Counter(row.skips) + added),
        malformed=len(wrong),
    )
    samples = tuple(f"{skip.reason}: {skip.sample}" for skip in wrong[:SAMPLES])
    return Brought(row, samples=samples)


def _bug(name: str, error: Exception) -> str:
    """Where a provider broke. The error's own text stays out: an address in it may hold a key."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{PurePath(last.filename).name}:{last.lineno}"
    return f"{name} failed inside: {type(error).__name__} at {where}; please report it"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def clock_time(instant: datetime) -> str:
    """An instant of today for a sentence."""
    return f"{instant:%H:%M:%S} UTC"


def _silent(_note: str) -> None:
    """Progress that nobody watches."""
