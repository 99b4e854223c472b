"""A small vLLM-like server that does what a test asks: `python vllm_like.py NAME [--key KEY]`.

It prints its port. How an answer comes is said in the body's "arbiter" object: `first` seconds
before anything, `tokens` events with `gap` seconds between them, `break_after` tokens. What a
server does to everybody is said to POST /ctl: {"mode": "ok" | "unhealthy" | "hang" | "busy"}.
Standard library only, one event loop, HTTP/1.1 with keep-alive.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 503: "Service Unavailable"}


class Upstream:
    """What all connections share."""

    def __init__(self, name: str, key: str | None, model: str) -> None:
        self.name, self.key, self.model = name, key, model
        self.mode = "ok"
        self.active = 0
        self.paths: Counter[str] = Counter()
        self.last: dict[str, Any] = {}
        self.seen_keys: Counter[str] = Counter()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._request(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (one.partition(":") for one in rest if one)
        }
        method, path, _ = line.split(" ", 2)
        body = await _body(reader, headers)
        self.paths[path] += 1
        if path == "/health":
            if self.mode == "hang":
                await asyncio.sleep(3600)
            await _send(writer, 503 if self.mode == "unhealthy" else 200, b"")
        elif path == "/ctl":
            await self._control(writer, body)
        elif self.key and headers.get("authorization") != f"Bearer {self.key}":
            self.seen_keys[headers.get("authorization", "")] += 1
            await _send(writer, 401, b'{"error": "Unauthorized"}')
        else:
            self.seen_keys[headers.get("authorization", "")] += 1
            self.last = {"method": method, "path": path, "headers": headers, "length": len(body)}
            await self._answer(writer, path, body)
        return True

    async def _control(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        if body:
            self.mode = json.loads(body)["mode"]
        told = {
            "name": self.name,
            "pid": os.getpid(),
            "active": self.active,
            "paths": dict(self.paths),
            "last": self.last,
            "keys": dict(self.seen_keys),
        }
        await _send(writer, 200, json.dumps(told).encode())

    async def _answer(self, writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
        if self.mode == "busy":
            await _send(writer, 503, b'{"error": {"message": "engine is currently busy"}}')
            return
        if path == "/v1/models":
            listed = {"object": "list", "data": [{"id": self.model, "object": "model"}]}
            await _send(writer, 200, json.dumps(listed).encode(), {"x-worker": self.name})
            return
        asked = json.loads(body) if body.startswith(b"{") else {}
        how = asked.get("arbiter", {})
        self.active += 1
        try:
            if self.mode == "hang":
                await asyncio.sleep(3600)
            await asyncio.sleep(how.get("first", 0))
            if asked.get("stream"):
                await self._stream(writer, how)
            else:
                told = {"worker": self.name, "path": path, "length": len(body)}
                await _send(writer, 200, json.dumps(told).encode(), {"x-worker": self.name})
        finally:
            self.active -= 1

    async def _stream(self, writer: asyncio.StreamWriter, how: Mapping[str, Any]) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-worker: "
            + self.name.encode()
            + b"\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number in range(how.get("tokens", 8)):
            if number == how.get("break_after"):
                writer.transport.abort()
                raise ConnectionResetError
            event = {"n": number, "worker": self.name, "at": time.monotonic()}
            await _chunk(writer, b"data: " + json.dumps(event).encode() + b"\n\n")
            await asyncio.sleep(how.get("gap", 0))
        await _chunk(writer, b"data: [DONE]\n\n")
        await _chunk(writer, b"")


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
            if size == 0:
                return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"content-length: {len(body)}"]
    lines += ["content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%X\r\n%b\r\n" % (len(data), data))
    await writer.drain()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    given = parser.parse_args()
    tls = None
    if given.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*given.tls)
    upstream = Upstream(given.name, given.key, given.model)
    server = await asyncio.start_server(
        upstream.connection, given.host, given.port, limit=1 << 26, backlog=1024, ssl=tls
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
