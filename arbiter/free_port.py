"""A port of loopback for a server that starts later."""

from __future__ import annotations

import random
import socket

PORTS = range(18_000, 30_000)
"""Below those that Linux (32768), macOS and Windows (49152) give to clients: one of theirs may be a
connection's before the server has it, and is kept for a minute after that connection has ended."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError(f"no port of 127.0.0.1 from {PORTS[0]} to {PORTS[-1]} is free")
