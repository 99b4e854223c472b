"""Collected prices are sorted in memory that does not grow with their number."""

from __future__ import annotations

import tracemalloc

import numpy as np

from arbiter.store.spool import OPEN, PastPrices, SeriesFacts
from arbiter.store.stretches import tidied

RUN = 2_000
BLOCK = 500


def facts(number: int) -> SeriesFacts:
    name = f"type{number}"
    return SeriesFacts("p", "t", "r", "", name, "spot", "USD", "H100", 8, "s")


def peak(rows: int) -> int:
    """The most memory, in bytes, that sorting so many rows takes; checks that all come back."""
    scattered = np.random.default_rng(7)
    tracemalloc.start()
    try:
        with PastPrices(RUN) as past:
            for number in range(50):
                past.number(facts(number))
            past.origin("file")
            for start in range(0, rows, BLOCK):
                since = 1_600_000_000 + start + np.arange(BLOCK)
                number = scattered.integers(0, 50, BLOCK)
                past.extend(number, since, np.full(BLOCK, OPEN), since % 977 + 1, np.zeros(BLOCK))
            came = standing = 0
            before = -1
            for chunk in past.chunks():
                begin = chunk["begin"]
                assert (np.diff(begin, prepend=before) > 0).all()
                came, before = came + len(chunk), int(begin[-1]) if len(begin) else before
            for part in tidied(past.chunks(), 2_000_000_000, 2_000_000_000):
                standing += part.rows
            assert came == rows == past.rows
            assert standing == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_run_whatever_the_number_of_rows() -> None:
    peak(RUN * 2)  # imports and caches
    assert peak(RUN * 60) < 2 * peak(RUN * 12)


def test_rows_may_be_added_after_they_were_read() -> None:
    with PastPrices(2) as past:
        number, origin = past.number(facts(0)), past.origin("file")
        for since in (5, 3, 1):
            past.extend([number], [since], [OPEN], [1], [origin])
        assert sum(len(chunk) for chunk in past.chunks()) == 3
        for since in (4, 2, 0):
            past.extend([number], [since], [OPEN], [1], [origin])
        read = [int(row["begin"]) for chunk in past.chunks() for row in chunk]
    assert read == [0, 1, 2, 3, 4, 5]
