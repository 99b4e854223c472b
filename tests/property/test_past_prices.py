"""However past prices come, and whatever is stored, stretches never overlap and nothing is lost.

The model is a dict of single seconds: slow, and hard to get wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select

from arbiter.domain import Purchase
from arbiter.store import bulk
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook
from arbiter.store.spool import GAP, OPEN, PastPrices, SeriesFacts
from arbiter.store.stretches import Stretches, fitted, stretches, tidied
from arbiter.store.tables import price_change, price_import, price_now, series
from arbiter.testing import FakeClock, priced

END = 40
CLOCK = FakeClock()
NOW = CLOCK.now()
EPOCH = int(NOW.timestamp()) - 1000

Seconds = dict[tuple[int, int], tuple[int, int]]
"""(series, second) -> (micros, origin)."""


class Brought(NamedTuple):
    """A row of an import."""

    series: int
    since: int
    length: int  # 0 is open
    micros: int  # 0 is a gap
    origin: int


rows_brought = st.lists(
    st.builds(
        Brought,
        st.integers(0, 2),
        st.integers(0, END - 1),
        st.just(0) | st.integers(1, 15),
        st.integers(0, 3),
        st.integers(0, 1),
    ),
    max_size=14,
)


def expected(rows: Iterable[Brought], open_until: int, now: int) -> Seconds:
    """What each second costs, by the rules of the documentation, the slow way."""
    starts: dict[tuple[int, int], Brought] = {}
    for row in rows:
        starts[row.series, row.since] = row  # of two for one second the later counts
    seconds: Seconds = {}
    for row in starts.values():
        later = [one.since for one in starts.values() if one.series == row.series]
        following = [since for since in later if since > row.since]
        end = row.since + row.length if row.length else (open_until if not following else END * 9)
        end = min([end, now, *following])
        if row.micros != GAP:
            for second in range(row.since, end):
                seconds[row.series, second] = row.micros, row.origin
    return seconds


def collected(past: PastPrices, rows: Sequence[Brought], offset: int = 0) -> None:
    for number in range(3):
        past.number(facts(number))
    for origin in range(2):
        past.origin(f"origin {origin}")
    for row in rows:
        since = row.since + offset
        until = since + row.length if row.length else OPEN
        past.extend([row.series], [since], [until], [row.micros], [row.origin])


def facts(number: int, provider: str = "p") -> SeriesFacts:
    return SeriesFacts(provider, "t", "r", "", f"type{number}", "spot", "USD", "H100", 1, "s")


def as_seconds(made: Iterable[Stretches]) -> Seconds:
    """Each second of the stretches; fails where two are over one another."""
    seconds: Seconds = {}
    for part in made:
        columns = (part.series, part.since, part.until, part.micros, part.origin)
        for one, since, until, micros, origin in zip(*(c.tolist() for c in columns), strict=True):
            assert since < until
            for second in range(since, until):
                assert (one, second) not in seconds
                seconds[one, second] = micros, origin
    return seconds


def touching_equals(made: Iterable[Stretches]) -> int:
    rows = [row for part in made for row in zip(*(c.tolist() for c in part), strict=True)]
    return sum(a[1] == b[0] and a[2:] == b[2:] for a, b in pairwise(rows))


@settings(deadline=None, max_examples=300)
@given(rows_brought, st.integers(1, 5), st.integers(5, END + 5))
def test_rows_become_stretches_whatever_their_order_and_the_size_of_a_run(
    rows: list[Brought], run: int, now: int
) -> None:
    with PastPrices(run) as past:
        collected(past, rows)
        made = list(tidied(past.chunks(), END, now))
        again = list(tidied(past.chunks(), END, now))
    assert as_seconds(made) == expected(rows, END, now)
    assert touching_equals(made) == 0
    assert as_seconds(again) == as_seconds(made)
    begins = [begin for part in made for begin in part.begin.tolist()]
    assert begins == sorted(begins)


@settings(deadline=None, max_examples=300)
@given(
    rows_brought,
    rows_brought,
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, END), st.integers(1, 9)), max_size=4),
)
def test_what_is_stored_and_what_is_closed_win(
    rows: list[Brought], before: list[Brought], closed: list[tuple[int, int, int]]
) -> None:
    new, stored = whole(rows), whole(before)
    spans = np.array([(s << 33 | a, s << 33 | a + n) for s, a, n in closed], np.int64)
    left = fitted(new, stored, (spans.reshape(-1, 2)[:, 0], spans.reshape(-1, 2)[:, 1]))

    shut = {(s, second) for s, a, n in closed for second in range(a, a + n)}
    had = as_seconds([stored])
    kept = stored.where(~np.isin(stored.begin, left.absorbed))
    assert set(left.absorbed.tolist()) <= set(stored.begin.tolist())
    after = as_seconds([stretches(*map(np.concatenate, zip(kept, left.added, strict=True)))])
    brought = {key: what for key, what in as_seconds([new]).items() if key not in shut}
    assert after == brought | had
    everything = stretches(*map(np.concatenate, zip(kept, left.added, strict=True)))
    assert touching_equals([everything]) <= touching_equals([stored])
    if not brought.keys() - had.keys():
        assert left.added.rows == 0
        assert len(left.absorbed) == 0


def whole(rows: Sequence[Brought]) -> Stretches:
    with PastPrices() as past:
        collected(past, rows)
        made = list(tidied(past.chunks(), END, END))
    return made[0] if made else stretches(*(np.empty(0, np.int64) for _ in range(4)))


# --- in the database --------------------------------------------------------------------------

providers = (f"q{number}" for number in count())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One database for all examples: each is a provider of its own in it."""
    opened = Store(f"sqlite:///{tmp_path_factory.mktemp('past') / 'arbiter.db'}")
    yield opened
    opened.close()


def live(connection: Connection, provider: str, rows: Sequence[Brought]) -> set[tuple[int, int]]:
    """Stretches that arbiter watched, of series 0; returns the seconds from first to last."""
    watched = sorted(
        {row.since: row for row in rows if row.series == 0}.values(), key=lambda r: r[1]
    )
    if not watched:
        return set()
    book = PriceBook(provider)
    row = PollRow(provider, NOW, NOW, "ok")
    offer = priced("r", "1", instance_type="type0", tier="t", gpu="H100")
    book.record(connection, [offer], frozenset({("r", Purchase.SPOT)}), row)
    found = connection.execute(
        select(series.c.id).where(series.c.provider == provider)
    ).scalar_one()
    connection.execute(price_change.delete().where(price_change.c.series_id == found))
    for one, following in zip(watched, [*watched[1:], None], strict=True):
        end = None if following is None else min(one.since + (one.length or 99), following.since)
        connection.execute(
            insert(price_change).values(
                series_id=found,
                valid_from=EPOCH + one.since,
                valid_to=None if end is None else EPOCH + end,
                price_micros=one.micros + 1,
            )
        )
    return {(0, second) for second in range(watched[0].since, 2000)}


def stored(connection: Connection, provider: str) -> list[tuple[int, int, int | None, int, object]]:
    rows = connection.execute(
        select(
            series.c.instance_type,
            price_change.c.valid_from,
            price_change.c.valid_to,
            price_change.c.price_micros,
            price_import.c.source,
        )
        .join(series, series.c.id == price_change.c.series_id)
        .outerjoin(price_import, price_import.c.id == price_change.c.import_id)
        .where(series.c.provider == provider)
        .order_by(series.c.id, price_change.c.valid_from)
    )
    return [(int(row[0][4:]), *row[1:]) for row in rows]


def brought(connection: Connection, provider: str, rows: Sequence[Brought]) -> bulk.Written:
    with PastPrices(run=4) as past:
        for number in range(3):
            past.number(facts(number, provider))
        past.origin("origin 0"), past.origin("origin 1")
        for row in rows:
            since = EPOCH + row.since
            until = since + row.length if row.length else OPEN
            past.extend([row.series], [since], [until], [row.micros], [row.origin])
        return bulk.write(connection, past, NOW, open_until=EPOCH + END)


@settings(deadline=None, max_examples=60)
@given(rows_brought, st.lists(rows_brought, min_size=1, max_size=3))
def test_an_import_adds_beside_what_is_recorded_and_a_second_one_adds_nothing(
    store: Store, watched: list[Brought], imports: list[list[Brought]]
) -> None:
    provider = next(providers)
    with store.begin() as connection:
        shut = live(connection, provider, watched)
        observed = [row for row in stored(connection, provider) if row[4] is None]
        standing = connection.execute(select(price_now)).all()
        said: Seconds = {}
        for rows in imports:
            brought(connection, provider, rows)
            new = expected(rows, END, 1000)
            said = {key: what for key, what in new.items() if key not in shut} | said
            before = stored(connection, provider)
            assert brought(connection, provider, rows).rows == 0
            assert stored(connection, provider) == before
        assert connection.execute(select(price_now)).all() == standing
        after = stored(connection, provider)
    assert [row for row in after if row[4] is None] == observed
    seconds: dict[tuple[int, int], tuple[int, int]] = {}
    for one, since, until, micros, source in after:
        if source is None:
            continue
        assert until is not None
        for second in range(since - EPOCH, until - EPOCH):
            assert (one, second) not in seconds
            seconds[one, second] = micros, int(str(source)[-1])
    assert seconds == said
    for a, b in pairwise(after):
        if a[0] == b[0] and a[4] is not None and b[4] is not None:
            assert a[2] is not None
            assert a[2] <= b[1]
            assert (a[2], *a[3:]) != (b[1], *b[3:])
