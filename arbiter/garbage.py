"""Work that makes thousands of objects and no cycles, without the collector walking them all."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_at_work = 0
_was_on = False


@contextmanager
def uncollected() -> Iterator[None]:
    """Until the end no garbage is searched for, in any thread; what nobody refers to is freed.

    The search is set off by the number of new objects and walks all that are alive: it cost as much
    as all else in a poll that changes every price. For short work without waiting in it, since
    cycles that others make stay until its end. Side by side, the last to end turns it on again.
    """
    global _at_work, _was_on
    with _lock:
        if _at_work == 0:
            _was_on = gc.isenabled()
            gc.disable()
        _at_work += 1
    try:
        yield
    finally:
        with _lock:
            _at_work -= 1
            if _at_work == 0 and _was_on:
                gc.enable()
