"""Ports that are kept for servers to come: nobody else of the machine is given them meanwhile."""

from __future__ import annotations

import socket
from contextlib import suppress

TRIES = 100
QUEUE_PORTS = range(50_000, 60_000)
DEFAULT_API_PORT, DEFAULT_QUEUE_PORT = 46_580, 50_011


class KeptPorts:
    """A port for the simulated AWS, and a pair for SkyPilot's API server and its queue.

    Each is bound for as long as this lives and listened on by nobody here, so that the kernel gives
    it to no client and a server that sets SO_REUSEADDR, as all of these do, may still listen on it,
    and may do so again after a restart.

    Attributes:
        aws: of the simulated AWS.
        api: of SkyPilot's API server.
        queue: of its queue, which SkyPilot derives from `api`.
    """

    def __init__(self) -> None:
        kept_aws = _keep(0)
        kept_api, kept_queue = _keep_pair()
        self._kept = (kept_aws, kept_api, kept_queue)
        self.aws, self.api, self.queue = (kept.getsockname()[1] for kept in self._kept)

    def close(self) -> None:
        """Let go of them."""
        for kept in self._kept:
            kept.close()


def queue_port(api_port: int) -> int:
    """Where SkyPilot 0.14 puts the queue of an API server (sky.server.requests.queues.mp_queue)."""
    offset = DEFAULT_QUEUE_PORT - QUEUE_PORTS.start + api_port - DEFAULT_API_PORT
    return QUEUE_PORTS[offset % len(QUEUE_PORTS)]


def _keep_pair() -> tuple[socket.socket, socket.socket]:
    for _ in range(TRIES):
        api = _keep(0)
        with suppress(OSError):  # somebody has the other one, perhaps a connection that just ended
            return api, _keep(queue_port(api.getsockname()[1]))
        api.close()
    raise RuntimeError(f"no free ports for SkyPilot's API server and its queue in {TRIES} tries")


def _keep(port: int) -> socket.socket:
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        kept.bind(("127.0.0.1", port))
    except OSError:
        kept.close()
        raise
    return kept
