"""What a client of the gateway does, many at a time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

KEY = "sk-client-of-this-test"


@dataclass
class Stream:
    """An answer that comes in pieces.

    Attributes:
        events: what came, without the end mark.
        lags: seconds that each took from the server's hand to ours; one clock, one machine.
        whole: it came to its end.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    whole: bool = False


@asynccontextmanager
async def clients(key: str | None = KEY) -> AsyncIterator[httpx.AsyncClient]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        headers=headers, limits=limits, timeout=60, trust_env=False
    ) as one:
        yield one


def question(**how: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "arbiter": how}


async def ask(client: httpx.AsyncClient, base: str, **how: Any) -> httpx.Response:
    return await client.post(f"{base}/chat/completions", json=question(**how))


async def stream(
    client: httpx.AsyncClient,
    base: str,
    seen: Callable[[dict[str, Any]], None] | None = None,
    **how: Any,
) -> Stream:
    """Ask for a stream and read it; one that is cut is returned as not whole."""
    got = Stream()
    body = question(**how) | {"stream": True}
    try:
        async with client.stream("POST", f"{base}/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    got.whole = True
                elif line:
                    event = json.loads(line.removeprefix("data: "))
                    got.lags.append(time.monotonic() - event["at"])
                    got.events.append(event)
                    if seen is not None:
                        seen(event)
    except httpx.RemoteProtocolError:
        assert not got.whole
    return got


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition, while everything else goes on."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, "it never came to hold"
        await asyncio.sleep(0.02)


def upstream_state(port: int) -> dict[str, Any]:
    """What a server behind the gateway has seen."""
    told: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/ctl", trust_env=False).json()
    return told


def set_mode(port: int, mode: str) -> None:
    """How such a server treats everybody from now on."""
    httpx.post(f"http://127.0.0.1:{port}/ctl", json={"mode": mode}, trust_env=False)
