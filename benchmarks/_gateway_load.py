"""Clients for the benchmark of the gateway. Plain sockets: what they cost themselves is little."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from dataclasses import dataclass

BODY = json.dumps(
    {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
).encode()
EXPECTED = b"the expected answer"

_EVENT = re.compile(rb"data: (\d+) ([0-9.]+)\n\n")


@dataclass(frozen=True)
class Target:
    """Where to ask.

    Attributes:
        key: what to show there, or None.
    """

    port: int
    path: str
    key: str | None

    def request(self, body: bytes = BODY) -> bytes:
        """The whole request."""
        lines = [
            f"POST {self.path} HTTP/1.1",
            "host: benchmark",
            "content-type: application/json",
            f"content-length: {len(body)}",
        ]
        if self.key is not None:
            lines.append(f"authorization: Bearer {self.key}")
        return "\r\n".join([*lines, "", ""]).encode() + body


def one_by_one(target: Target, number: int) -> list[float]:
    """Seconds of each of so many requests over one connection."""
    request, took = target.request(), []
    with socket.create_connection(("127.0.0.1", target.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(number):
            began = time.perf_counter()
            connection.sendall(request)
            answer = b""
            while not is_whole(answer):
                more = connection.recv(65536)
                assert more, "the connection was closed"
                answer += more
            took.append(time.perf_counter() - began)
            check(answer)
    return took


def is_whole(answer: bytes) -> bool:
    """Whether an HTTP/1.1 answer is there to its end."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = answer[:end].lower()
    if b"transfer-encoding: chunked" in head:
        return answer.endswith(b"0\r\n\r\n")
    _, _, rest = head.partition(b"content-length:")
    return len(answer) >= end + 4 + int(rest.split(b"\r\n")[0])


def check(answer: bytes) -> None:
    """The answer that the server gives, and no other."""
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:500]
    assert EXPECTED in answer, answer[:500]


class _Asking(asyncio.Protocol):
    """Asks again as soon as it is answered."""

    def __init__(self, request: bytes, until: float) -> None:
        self._request, self._until = request, until
        self._answer = b""
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not is_whole(self._answer):
            return
        try:
            check(self._answer)
        except AssertionError as error:
            self._end(error)
            return
        self._answer = b""
        if time.perf_counter() > self._until:
            self._end(None)
            return
        self.answered += 1
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(AssertionError(f"the connection was closed ({exc})"))

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error) if error else self.done.set_result(None)
        self._transport.close()


async def throughput(target: Target, connections: int, seconds: float) -> float:
    """Answers per second."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    asking = []
    for _ in range(connections):
        _, one = await loop.create_connection(
            lambda: _Asking(target.request(), began + seconds), "127.0.0.1", target.port
        )
        asking.append(one)
    await asyncio.gather(*(one.done for one in asking))
    return sum(one.answered for one in asking) / seconds


class _Reading(asyncio.Protocol):
    """Reads one stream, and how old each event is when it comes."""

    def __init__(self, request: bytes, tokens: int) -> None:
        self._request, self._tokens = request, tokens
        self._pending = b""
        self.lags: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._pending += data
        end = 0
        for event in _EVENT.finditer(self._pending):
            assert int(event[1]) == len(self.lags), "an event is missing"
            self.lags.append(now - float(event[2]))
            end = event.end()
        self._pending = self._pending[end:]
        if self._pending.endswith(b"0\r\n\r\n") and not self.done.done():
            whole = len(self.lags) == self._tokens
            self.done.set_result(None) if whole else self.done.set_exception(
                AssertionError(f"{len(self.lags)} of {self._tokens} events came")
            )
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(AssertionError(f"the stream was cut ({exc})"))


async def streams(target: Target, number: int, tokens: int) -> list[float]:
    """Seconds that each event of so many streams at a time took to come."""
    asked = json.loads(BODY) | {"stream": True, "max_tokens": tokens}
    request = target.request(json.dumps(asked).encode())
    loop = asyncio.get_running_loop()
    reading = []
    for _ in range(number):
        _, one = await loop.create_connection(
            lambda: _Reading(request, tokens), "127.0.0.1", target.port
        )
        reading.append(one)
        await asyncio.sleep(0.05 / number)  # so that they do not all speak at the same instant
    await asyncio.gather(*(one.done for one in reading))
    return [lag for one in reading for lag in one.lags]
