"""One poll: fetch, parse, screen, store. A provider that fails harms nobody but itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime

from arbiter import registry
from arbiter.clock import Clock
from arbiter.errors import ProviderError
from arbiter.provider import Progress, Provider, Skip
from arbiter.quality import screen
from arbiter.settings import Settings
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook, write_poll

SUSPECT_ROWS = 10
"""A poll of fewer rows is not judged by its share of malformed ones."""


def poll_provider(
    provider: Provider, store: Store, book: PriceBook, clock: Clock, progress: Progress
) -> PollRow:
    """Poll one provider and store what changed.

    The network is asked before the transaction begins. Whatever goes wrong with the provider is in
    the row: its state is "failed" or "degraded", with the reasons.

    Raises:
        StoreError: the database failed; nothing of this poll was written.
    """
    started = clock.now()
    try:
        fetched = provider.fetch(progress)
        parsed = provider.parse(fetched, clock.now())
    except ProviderError as error:
        return _failed(provider.name, store, started, clock, str(error))
    except Exception as error:  # noqa: BLE001  a provider's bug must not stop the others
        reason = f"{provider.name} failed inside: {type(error).__name__}: {error}"
        return _failed(provider.name, store, started, clock, reason)
    offers, doubtful = screen(parsed.offers)
    skips = [*parsed.skips, *doubtful]
    malformed = sum(1 for skip in skips if skip.malformed)
    rows = malformed + len(offers)
    if rows >= SUSPECT_ROWS and malformed > rows / 2:
        reason = f"{malformed} of {rows} rows are malformed ({_worst(skips)}); none was used"
        return _failed(provider.name, store, started, clock, reason)
    row = PollRow(
        provider.name,
        started,
        clock.now(),
        "degraded" if fetched.degraded else "ok",
        skips=dict(Counter(skip.reason for skip in skips)),
        malformed=malformed,
        reasons=fetched.degraded,
    )
    with store.begin() as connection:
        return book.record(connection, offers, parsed.covered, row)


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
    """
    providers = [registry.load(name, settings.provider(name)) for name in names]
    pool = ThreadPoolExecutor(max_workers=max(1, len(providers)))
    try:
        futures = [
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
            yield future.result()
    finally:
        # Nobody waits for a silent provider after Ctrl-C; at the ordinary end all have finished.
        pool.shutdown(wait=False, cancel_futures=True)


def _failed(name: str, store: Store, started: datetime, clock: Clock, reason: str) -> PollRow:
    row = PollRow(name, started, clock.now(), "failed", reasons=(reason,))
    with store.begin() as connection:
        write_poll(connection, row)
    return row


def _worst(skips: Sequence[Skip]) -> str:
    counted = Counter(skip.reason for skip in skips if skip.malformed)
    return counted.most_common(1)[0][0]


def _silent(_note: str) -> None:
    """Progress that nobody watches."""
