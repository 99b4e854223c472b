"""Requests that come while nothing can answer wait behind a real Envoy, and are answered."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Setup
from gateway_client import KEY, ask, clients, question, stream, until, upstream_state

from arbiter.gateway.base import Backend, BackendState, waiting_room
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.gateway.room import Room

pytestmark = pytest.mark.anyio

HELD = waiting_room("tiny", 60, 256)


def held(gateway: EnvoyGateway, number: int, service: str = "svc") -> Callable[[], bool]:
    return lambda: gateway.counts()[service].held == number


def room_pid(setup: Setup) -> int:
    (pid,) = [
        int((path / "pid").read_text())
        for path in sorted(setup.state.glob("room-*"))
        if (path / "pid").is_file() and Path(f"/proc/{(path / 'pid').read_text().strip()}").exists()
    ]
    return pid


async def test_requests_wait_for_the_first_replica(setup: Setup, gateway: EnvoyGateway) -> None:
    gateway.serve("svc", [HELD])
    base = gateway.endpoint("svc")
    async with clients() as client:
        asked = [asyncio.create_task(ask(client, base)) for _ in range(20)]
        streams = [asyncio.create_task(stream(client, base, tokens=10)) for _ in range(12)]
        await until(held(gateway, 32))
        assert gateway.counts()["svc"].active == 32
        setup.upstream("one", "key-of-one")
        began = time.monotonic()
        await asyncio.to_thread(gateway.serve, "svc", [HELD, *setup.backends("one")])
        answers = await asyncio.gather(*asked)
        done = await asyncio.gather(*streams)
    assert [one.status_code for one in answers] == [200] * 20
    assert {one.json()["worker"] for one in answers} == {"one"}
    assert all(one.whole and len(one.events) == 10 for one in done)
    assert time.monotonic() - began < 10
    seen = upstream_state(setup.upstreams["one"].port)
    assert set(seen["keys"]) == {"Bearer key-of-one"}, "not what the waiting room was shown"
    counts = gateway.counts()["svc"]
    assert (counts.requests, counts.errors, counts.held, counts.active) == (32, 0, 0, 0)


async def test_a_long_body_waits_too(setup: Setup, gateway: EnvoyGateway) -> None:
    gateway.serve("svc", [HELD])
    async with clients() as client:
        body = question() | {"prompt": "x" * 20_000_000}
        url = f"{gateway.endpoint('svc')}/chat/completions"
        sent = asyncio.create_task(client.post(url, json=body))
        await until(held(gateway, 1))
        setup.upstream("one")
        await asyncio.to_thread(gateway.serve, "svc", [HELD, *setup.backends("one")])
        answer = await sent
    assert answer.status_code == 200
    assert answer.json()["length"] > 20_000_000


async def test_who_has_waited_long_enough_is_told_to_come_back(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """Envoy sends such a 503 again three times; the time counts from the first."""
    gateway.serve("svc", [waiting_room("tiny", 1.5, 256)])
    began = time.monotonic()
    async with clients() as client:
        answer = await ask(client, gateway.endpoint("svc"))
    waited = time.monotonic() - began
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    assert answer.json()["error"]["code"] == "no_replica"
    assert 1.4 < waited < 6, "not once for each of Envoy's attempts"
    assert gateway.counts()["svc"].errors == 1


async def test_no_more_wait_than_may(setup: Setup, gateway: EnvoyGateway) -> None:
    gateway.serve("svc", [waiting_room("tiny", 60, 3)])
    gateway.serve("other", [waiting_room("tiny", 60, 3)])
    base = gateway.endpoint("svc")
    async with clients() as client:
        asked = [asyncio.create_task(ask(client, base)) for _ in range(3)]
        await until(held(gateway, 3))
        more = await ask(client, base)
        assert more.status_code == 429
        assert more.headers["retry-after"] == "10"
        assert more.json()["error"]["code"] == "too_many_waiting"
        apart = asyncio.create_task(ask(client, gateway.endpoint("other")))
        await until(held(gateway, 1, "other"))
        setup.upstream("one")
        await asyncio.to_thread(gateway.serve, "svc", [HELD, *setup.backends("one")])
        assert [(await one).status_code for one in asked] == [200] * 3
        assert not apart.done(), "another service's replica answers nobody else"
        apart.cancel()
    await until(held(gateway, 0, "other"))


async def test_who_leaves_makes_room(setup: Setup, gateway: EnvoyGateway) -> None:
    gateway.serve("svc", [waiting_room("tiny", 60, 2)])
    base = gateway.endpoint("svc")
    async with clients() as client:
        asked = [asyncio.create_task(ask(client, base)) for _ in range(2)]
        await until(held(gateway, 2))
        for one in asked:
            one.cancel()
        await until(held(gateway, 0))
        again = asyncio.create_task(ask(client, base))
        await until(held(gateway, 1))
        again.cancel()


async def test_what_comes_while_all_replicas_are_lost_waits_for_the_next(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("one")
    gateway.serve("svc", [HELD, *setup.backends("one")])
    base = gateway.endpoint("svc")
    async with clients() as client:
        assert (await ask(client, base)).status_code == 200
        assert gateway.counts()["svc"].held == 0
        waiting = [asyncio.create_task(ask(client, base, first=0.5)) for _ in range(8)]
        await until(lambda: gateway.active("svc", "one") == 8)
        setup.upstreams["one"].kill()
        await asyncio.to_thread(gateway.serve, "svc", [HELD])
        await until(held(gateway, 8))
        setup.upstream("two")
        await asyncio.to_thread(gateway.serve, "svc", [HELD, *setup.backends("two")])
        answers = await asyncio.gather(*waiting)
    assert [one.json()["worker"] for one in answers] == ["two"] * 8


async def test_a_daemon_that_ends_loses_nobody_who_waits(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """The next driver of the folder is all that a new daemon has."""
    gateway.serve("svc", [HELD])
    async with clients() as client:
        asked = asyncio.create_task(ask(client, gateway.endpoint("svc")))
        await until(held(gateway, 1))
        pid, next_one = room_pid(setup), setup.gateway()
        await asyncio.to_thread(next_one.start)
        assert room_pid(setup) == pid, "adopted"
        setup.upstream("one")
        await asyncio.to_thread(next_one.serve, "svc", [HELD, *setup.backends("one")])
        assert (await asked).status_code == 200


async def test_a_waiting_room_that_is_replaced_hands_everybody_over(
    setup: Setup, gateway: EnvoyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.serve("svc", [HELD])
    async with clients() as client:
        asked = [asyncio.create_task(ask(client, gateway.endpoint("svc"))) for _ in range(16)]
        await until(held(gateway, 16))
        old = room_pid(setup)
        monkeypatch.setattr("arbiter.gateway.room._digest", lambda: "another program")
        await asyncio.to_thread(gateway.start)
        await until(lambda: not Path(f"/proc/{old}/fd").exists() or not _runs(old))
        await until(held(gateway, 16))
        setup.upstream("one")
        await asyncio.to_thread(gateway.serve, "svc", [HELD, *setup.backends("one")])
        assert [(await one).status_code for one in asked] == [200] * 16


async def test_a_gateway_that_is_replaced_loses_nobody_who_waits(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """They wait behind the old one, which follows the same files until it is idle."""
    gateway.serve("svc", [HELD])
    base = gateway.endpoint("svc")
    async with clients() as client:
        before = [asyncio.create_task(ask(client, base)) for _ in range(12)]
        await until(held(gateway, 12))
        newer = setup.gateway(workers=1)
        await asyncio.to_thread(newer.start)
        await until(lambda: newer.health().retiring == 1)
        async with clients() as another:
            after = [asyncio.create_task(ask(another, base)) for _ in range(4)]
            await until(held(newer, 16))
            setup.upstream("one")
            await asyncio.to_thread(newer.serve, "svc", [HELD, *setup.backends("one")])
            answers = await asyncio.gather(*before, *after)
    assert [one.status_code for one in answers] == [200] * 16


def _runs(pid: int) -> bool:
    try:
        return "waiting_room" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


async def test_a_waiting_room_that_dies_is_started_again(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    gateway.serve("svc", [HELD])
    base = gateway.endpoint("svc")
    async with clients() as client:
        os.kill(room_pid(setup), signal.SIGKILL)
        assert (await ask(client, base)).status_code == 503, "nobody holds it"
        await asyncio.to_thread(gateway.start)
        asked = asyncio.create_task(ask(client, base))
        await until(held(gateway, 1))
        setup.upstream("one")
        await asyncio.to_thread(gateway.serve, "svc", [HELD, *setup.backends("one")])
        assert (await asked).status_code == 200


async def test_without_a_room_it_is_a_503_at_once_and_never_a_404(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """Also by the model's name: with several services it would be unknown while nothing runs."""
    gateway.serve("svc", [waiting_room("tiny", 0, 256)])
    gateway.serve("other", [waiting_room("large", 0, 256)])
    assert not list(setup.state.glob("room-*")), "nobody waits, so there is no room"
    async with clients() as client:
        answer = await ask(client, gateway.endpoint("svc"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        by_name = await client.post(f"{setup.url}/v1/chat/completions", json=question())
        assert by_name.status_code == 503
        listed = await client.get(f"{setup.url}/v1/models")
        assert [one["id"] for one in listed.json()["data"]] == ["large", "tiny"]
    counts = gateway.counts()["svc"]
    assert (counts.requests, counts.errors) == (2, 2), "so it can be seen that somebody asked"


async def test_an_external_api_answers_rather_than_that_anybody_waits(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("api")
    api = Backend("fallback", setup.upstreams["api"].url, None, None, BackendState.STANDBY)
    gateway.serve("svc", [HELD, api])
    async with clients() as client:
        assert (await ask(client, gateway.endpoint("svc"))).json()["worker"] == "api"


async def test_only_clients_with_a_key_may_wait(setup: Setup, gateway: EnvoyGateway) -> None:
    gateway.serve("svc", [HELD])
    async with clients(None) as client:
        assert (await ask(client, gateway.endpoint("svc"))).status_code == 401
        forged = {"authorization": "Bearer svc 99999 999", "x-arbiter-since": "99999999999"}
        url = f"{gateway.endpoint('svc')}/chat/completions"
        assert (await client.post(url, json={}, headers=forged)).status_code == 401
    gateway.serve("svc", [waiting_room("tiny", 1, 256)])
    async with clients() as client:
        began = time.monotonic()
        answer = await client.post(url, json={}, headers={"x-arbiter-since": "99999999999"})
        assert answer.status_code == 503
        assert time.monotonic() - began < 6, "a client does not say since when it waits"


async def test_the_room_is_closed_when_no_service_holds_any_more(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    gateway.serve("svc", [HELD])
    pid = room_pid(setup)
    gateway.serve("svc", [waiting_room("tiny", 0, 0)])
    gateway.start()
    await until(lambda: not _runs(pid))


async def test_stop_ends_the_room_too(setup: Setup, gateway: EnvoyGateway) -> None:
    gateway.serve("svc", [HELD])
    pid = room_pid(setup)
    gateway.stop()
    assert not _runs(pid)
    Room(setup.state).stop()


async def test_the_socket_is_for_this_user_alone(setup: Setup, gateway: EnvoyGateway) -> None:
    gateway.serve("svc", [HELD])
    assert (setup.state / "waiting.sock").stat().st_mode & 0o077 == 0
    assert KEY not in "".join(
        path.read_text(errors="replace") for path in setup.state.glob("room-*/*") if path.is_file()
    )
