"""A server of HTTP on loopback for the length of a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Quiet(BaseHTTPRequestHandler):
    """Answers of a test; nothing of them appears on the terminal."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def listening(server: ThreadingHTTPServer) -> Iterator[str]:
    """Its URL, while it answers from a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
