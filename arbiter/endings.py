"""Machines being ended, each in a thread of its own: one that takes minutes holds up no other.

Nothing is lost with the threads: who ends a machine has written that down, and asks again.
"""

from __future__ import annotations

import threading
from typing import Protocol

from arbiter.errors import ArbiterError

PATIENCE_S = 0.3
"""For so long a new ending is waited for: on loopback, and in a test, it is over by then."""


class Ends(Protocol):
    """An executor, or whoever else ends what has a name."""

    def terminate(self, cluster: str) -> None:
        """End it; return when it is gone.

        Raises:
            ArbiterError: it could not be ended.
        """
        ...


class Endings:
    """Ends clusters.

    Args:
        patience_s: seconds that `ended` waits for an ending that it has begun.
    """

    def __init__(self, executor: Ends, patience_s: float = PATIENCE_S) -> None:
        self._executor = executor
        self._patience_s = patience_s
        self._running: dict[str, _Ending] = {}

    def ended(self, cluster: str) -> bool:
        """Whether the executor has ended the cluster since this was first asked.

        Begins it where it is not going on. True is said once: asked again, it begins anew.

        Raises:
            ArbiterError: it could not be ended; asked again, it is tried again.
        """
        running = self._running.get(cluster)
        if running is None:
            running = self._running[cluster] = _Ending(self._executor, cluster)
            running.thread.join(self._patience_s)
        if running.thread.is_alive():
            return False
        del self._running[cluster]
        if running.error is not None:
            raise running.error
        return True


class _Ending:
    def __init__(self, executor: Ends, cluster: str) -> None:
        self.error: ArbiterError | None = None
        self._executor = executor
        self._cluster = cluster
        self.thread = threading.Thread(target=self._run, name=f"end {cluster}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._executor.terminate(self._cluster)
        except ArbiterError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001  a thread has nobody else to tell
            self.error = ArbiterError(f"ending it failed: {type(error).__name__}: {error}")
