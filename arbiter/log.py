"""The daemon's log: one line for each thing that happened, for people or for programs."""

from __future__ import annotations

import json
import sys
import threading
from typing import TextIO

from arbiter.clock import Clock


class Log:
    """Writes lines to stderr, from any thread.

    Args:
        as_json: one JSON object a line, {"at", "kind", "text"}; otherwise time and text.
        stream: None is stderr.
    """

    def __init__(
        self, clock: Clock, *, as_json: bool = False, stream: TextIO | None = None
    ) -> None:
        self._clock = clock
        self._as_json = as_json
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def __call__(self, kind: str, text: str) -> None:
        """Write one line.

        Args:
            kind: "journal" (a decision or an event), "poll" or "daemon".
        """
        at = self._clock.now()
        text = " ".join(text.split())
        if self._as_json:
            line = json.dumps({"at": at.isoformat(), "kind": kind, "text": text})
        else:
            line = f"{at:%Y-%m-%d %H:%M:%S} {text}"
        with self._lock:
            # A terminal that was closed must not stop the daemon.
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except (OSError, ValueError):
                return
