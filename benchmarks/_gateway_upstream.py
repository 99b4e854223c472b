"""The server behind all gateways of the benchmark: `python _gateway_upstream.py PORT`.

It answers at once, so that what is measured is the way to it. A stream's events carry the instant
at which they were written, on the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

GAP_S = 0.05

_BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "the expected answer"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
    }
).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY)
) + _BODY
_HEALTH = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._pending = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while (end := self._pending.find(b"\r\n\r\n")) >= 0:
            head = self._pending[:end].lower()
            _, found, rest = head.partition(b"content-length:")
            length = int(rest.split(b"\r\n")[0]) if found else 0
            if len(self._pending) < end + 4 + length:
                return
            body = self._pending[end + 4 : end + 4 + length]
            self._pending = self._pending[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get "):
            self._transport.write(_HEALTH)
        elif b'"stream": true' in body:
            task = asyncio.ensure_future(self._stream(json.loads(body)["max_tokens"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._transport.write(_ANSWER)

    async def _stream(self, tokens: int) -> None:
        self._transport.write(_STREAM)
        for number in range(tokens):
            event = b"data: %d %.9f\n\n" % (number, time.monotonic())
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(GAP_S)
        self._transport.write(b"0\r\n\r\n")


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
