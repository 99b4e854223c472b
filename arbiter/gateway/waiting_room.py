"""Where requests wait while no replica can answer.

`python -m arbiter.gateway.waiting_room STATE FOLDER`: the gateway's state folder, and its own.

Envoy cannot queue for a service without a healthy replica, but it keeps a request so that it can be
sent again. So it sends such a request here, over a socket in its state folder; here it is held, and
as soon as Envoy itself finds a replica healthy it is answered 503, which makes Envoy send it again,
now to that replica. What is held is a connection and a few words: bodies stay with Envoy.

A process of its own, like the gateway: an arbiter that ends or is killed loses no request that
waits. On SIGTERM everything is answered 503 at once; Envoy sends it again, to the next one here.

Each request says in its headers what Envoy was told of its service (`held_as`), and when it came to
the gateway, so that one that comes back has not more time than one that came once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from arbiter.errors import GatewayError
from arbiter.gateway.boot import RETRY_AFTER_S
from arbiter.gateway.process import Run, Runs
from arbiter.gateway.waiting import SOCKET, Ticket

READY = "ready"
"""A file in the process's own folder, there once it listens."""

LOOK_S = 0.1
"""Seconds between two questions to Envoy, while anything is held."""

MOST_HEAD = 256 << 10
_CHUNK = 64 << 10

Serving = Callable[[], frozenset[str]]
"""The services with a replica that Envoy finds healthy. Blocks."""


class WaitingRoom:
    """Holds requests.

    Args:
        serving: asked every LOOK_S while anything is held.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._held: Counter[str] = Counter()
        self._served: dict[str, asyncio.Event] = {}
        self._ending = asyncio.Event()

    async def run(self, listener: socket.socket) -> None:
        """Hold until `end` is called, then let everything go."""
        server = await asyncio.start_unix_server(self._connection, sock=listener, limit=MOST_HEAD)
        async with server:
            while not self._ending.is_set():
                if self._held:
                    await self._look()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), LOOK_S)
            server.close()
            while self._held:  # each is answered now, and gone
                await asyncio.sleep(0.01)

    def end(self) -> None:
        """Let everything go, and end."""
        self._ending.set()

    async def _look(self) -> None:
        for service in await asyncio.to_thread(self._serving):
            if service in self._served:
                self._served.pop(service).set()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._request(reader, writer):
                pass
        except (OSError, ValueError, LookupError, EOFError, asyncio.LimitOverrunError):
            pass  # the client has left, or it is none of ours
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        headers = _headers(head)
        ticket = Ticket.read(headers, time.time())
        if self._held[ticket.service] >= ticket.most:
            await _read_body(reader, headers)
            return await _answer(writer, 429, "too_many_waiting", _TOO_MANY)
        self._held[ticket.service] += 1
        try:
            await _read_body(reader, headers)  # or Envoy would not send it again
            if not await self._wait(ticket, reader):
                return False
        finally:
            self._held[ticket.service] -= 1
            if not self._held[ticket.service]:
                del self._held[ticket.service]
        return await _answer(writer, 503, "no_replica", _NOBODY)

    async def _wait(self, ticket: Ticket, reader: asyncio.StreamReader) -> bool:
        """Until a replica serves, the time is up or this program ends; False: the client left."""
        served = self._served.setdefault(ticket.service, asyncio.Event())
        left = asyncio.ensure_future(reader.read(1))
        others = [asyncio.ensure_future(one.wait()) for one in (served, self._ending)]
        wait_s = max(0.0, ticket.until - time.time())
        try:
            await asyncio.wait([left, *others], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            return not left.done()
        finally:
            for one in (left, *others):
                one.cancel()
            await asyncio.gather(left, *others, return_exceptions=True)


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> None:
    """Read it, and keep nothing of it."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        await _skip(reader, int(headers.get("content-length", 0)))
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        await _skip(reader, size + 2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass


async def _skip(reader: asyncio.StreamReader, size: int) -> None:
    while size > 0:
        part = await reader.read(min(size, _CHUNK))
        if not part:
            raise EOFError
        size -= len(part)


async def _answer(writer: asyncio.StreamWriter, status: int, code: str, message: str) -> bool:
    kind = "service_unavailable" if status == 503 else "rate_limit_exceeded"
    error = {"message": message, "type": kind, "param": None, "code": code}
    body = json.dumps({"error": error}).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {'Service Unavailable' if status == 503 else 'Too Many Requests'}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"retry-after: {RETRY_AFTER_S}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return True


_NOBODY = "no replica of this model can answer now, try again later"
_TOO_MANY = "too many requests wait for a replica of this model already, try again later"


def listen(state: Path) -> socket.socket:
    """The socket, in the place of the one of an earlier process, whose connections live on.

    By a relative name: the path of a socket has at most 107 bytes.
    """
    os.chdir(state)
    draft = f".{SOCKET}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(draft)
    listener.listen(1024)
    os.rename(draft, SOCKET)
    return listener


def _serving(run: Run) -> frozenset[str]:
    hosts = run.admin.hosts()
    return frozenset(
        service for service, all_ in hosts.items() if any(one.healthy for one in all_.values())
    )


def main(state: Path, folder: Path) -> None:
    """Hold until SIGTERM."""
    os.umask(0o077)
    runs = Runs(state, 0.0, lambda _: None)

    def serving() -> frozenset[str]:
        """In every process that answers: while one replaces another, both may wait here."""
        found: list[frozenset[str]] = []
        for run in runs.alive():
            with suppress(GatewayError):
                found.append(_serving(run))
        return frozenset.intersection(*found) if found else frozenset()

    async def hold() -> None:
        room = WaitingRoom(serving)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, room.end)
        await room.run(listener)

    listener = listen(state)
    (folder / READY).touch()
    asyncio.run(hold())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
