"""One poll: fetch, parse, screen, store. A provider that fails harms nobody but itself."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime
from operator import is_
from pathlib import PurePath

from arbiter import registry
from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import ProviderError, StoreError
from arbiter.provider import PricedOffer, Progress, Provider, Skip
from arbiter.quality import malformed, screen
from arbiter.settings import Settings
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook, Screened, write_poll

SUSPECT_ROWS = 10
"""A poll of fewer rows is not judged by its share of malformed ones."""


@dataclass(frozen=True, slots=True)
class _Brought:
    """What a poll brought, before any of it is stored."""

    row: PollRow
    offers: Sequence[PricedOffer] = ()
    covered: frozenset[tuple[str, Purchase]] = frozenset()


def poll_provider(
    provider: Provider, store: Store, book: PriceBook, clock: Clock, progress: Progress
) -> PollRow:
    """Poll one provider and store what changed.

    The network is asked before the transaction begins. Whatever goes wrong with the provider is in
    the row: its state is "failed" or "degraded", with the reasons.

    Args:
        provider, book: keep both between polls: they recognise what has not changed.

    Raises:
        StoreError: the database failed; nothing of this poll was written.
    """
    started = clock.now()
    brought = _ask(provider, book, started, clock, progress)
    row = replace(brought.row, finished_at=max(started, clock.now()))  # a clock may be set back
    try:
        with store.begin() as connection:
            if row.state != "failed":
                return book.record(connection, brought.offers, brought.covered, row)
            write_poll(connection, row)
            return row
    except BaseException:
        book.forget()
        raise


def poll_providers(
    names: Sequence[str],
    settings: Settings,
    store: Store,
    clock: Clock,
    progress: Mapping[str, Progress],
) -> Iterator[PollRow]:
    """Poll several providers side by side; rows come as they finish.

    Raises:
        UnknownName: a name is not in the registry; then nothing is polled.
        StoreError: the database failed for one of them, after the rows of all the others.
    """
    providers = [registry.load(name, settings.provider(name)) for name in names]
    failure: StoreError | None = None
    pool = ThreadPoolExecutor(max_workers=max(1, len(providers)))
    try:
        futures: list[Future[PollRow]] = [
            pool.submit(
                poll_provider,
                provider,
                store,
                PriceBook(provider.name),
                clock,
                progress.get(provider.name, _silent),
            )
            for provider in providers
        ]
        for future in as_completed(futures):
            try:
                row = future.result()
            except StoreError as error:
                failure = failure or error
            else:
                yield row
    finally:
        # Nobody waits for a silent provider after Ctrl-C; at the ordinary end all have finished.
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure


def _ask(
    provider: Provider, book: PriceBook, started: datetime, clock: Clock, progress: Progress
) -> _Brought:
    """Fetch, parse and screen: no database in here, and no error comes out."""
    row = PollRow(provider.name, started, started, "failed")
    try:
        fetched = provider.fetch(progress)
        parsed = provider.parse(fetched, clock.now())
        screened = _screened(book, parsed.offers)
    except ProviderError as error:
        return _Brought(replace(row, reasons=(_one_line(str(error)),)))
    except Exception as error:  # noqa: BLE001  a provider's bug must not stop the others
        return _Brought(replace(row, reasons=(_bug(provider.name, error),)))
    offers, skips = screened.kept, [*parsed.skips, *screened.left_out]
    wrong = sum(1 for skip in skips if skip.malformed)
    row = replace(row, skips=dict(Counter(skip.reason for skip in skips)), malformed=wrong)
    rows = wrong + len(offers)
    if rows >= SUSPECT_ROWS and wrong > rows / 2:
        reason = f"{wrong} of {rows} rows are malformed ({_worst(skips)}); none was used"
        return _Brought(replace(row, reasons=(reason,)))
    reasons = tuple(map(_one_line, fetched.degraded))
    row = replace(row, state="degraded" if reasons else "ok", reasons=reasons)
    return _Brought(row, offers, parsed.covered)


def _screened(book: PriceBook, offers: Sequence[PricedOffer]) -> Screened:
    """The offers to believe, and those left out. The same objects are not judged twice."""
    last = book.screened
    if last is None or len(last.offers) != len(offers) or not all(map(is_, last.offers, offers)):
        last = book.screened = _screen(offers)
    return last


def _screen(offers: Sequence[PricedOffer]) -> Screened:
    sound = [offer for offer in offers if offer.price.micros > 0 and offer.gpu_count > 0]
    kept, doubtful = screen(sound)
    if len(sound) < len(offers):  # a provider that breaks its contract
        reason = "price or number of GPUs is not above 0"
        worthless = (one for one in offers if one.price.micros <= 0 or one.gpu_count < 1)
        doubtful += [malformed(reason, offer) for offer in worthless]
    return Screened(tuple(offers), kept, doubtful)


def _bug(name: str, error: Exception) -> str:
    """Where a provider broke. The error's own text stays out: an address in it may hold a key."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{PurePath(last.filename).name}:{last.lineno}"
    return f"{name} failed inside: {type(error).__name__} at {where}; please report it"


def _worst(skips: Sequence[Skip]) -> str:
    counted = Counter(skip.reason for skip in skips if skip.malformed)
    return counted.most_common(1)[0][0]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _silent(_note: str) -> None:
    """Progress that nobody watches."""
