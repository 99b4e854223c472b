"""Replicas come, go, die and misbehave behind a real Envoy; clients notice what they must only."""

from __future__ import annotations

import asyncio
import statistics
from contextlib import suppress

import httpx
import pytest
from conftest import Setup
from gateway_client import ask, clients, question, set_mode, stream, until, upstream_state

from arbiter.errors import GatewayError
from arbiter.gateway.base import Backend, BackendState
from arbiter.gateway.envoy import EnvoyGateway

pytestmark = pytest.mark.anyio

DRAINING, STANDBY = BackendState.DRAINING, BackendState.STANDBY


async def test_tokens_come_one_by_one(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("one")
    gateway.serve("svc", setup.backends("one"))
    async with clients() as client:
        got = await stream(client, gateway.endpoint("svc"), tokens=40, gap=0.02)
    assert [event["n"] for event in got.events] == list(range(40))
    assert got.whole
    # Held back until the end, the first token would be 0.8 s old when it comes.
    assert statistics.median(got.lags) < 0.1


async def test_a_replica_is_added_drained_and_removed_under_live_streams(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("old")
    gateway.serve("svc", setup.backends("old"))
    base = gateway.endpoint("svc")
    async with clients() as client:
        streams = [
            asyncio.create_task(stream(client, base, tokens=100, gap=0.02)) for _ in range(24)
        ]
        await until(lambda: gateway.active("svc", "old") == 24)
        setup.upstream("new")
        await asyncio.to_thread(gateway.serve, "svc", setup.backends("new", old=DRAINING))
        later = [(await ask(client, base)).json()["worker"] for _ in range(20)]
        assert set(later) == {"new"}, "a draining replica gets nothing new"
        assert gateway.active("svc", "old") == 24
        assert not gateway.idle("svc", "old")

        done = await asyncio.gather(*streams)
        assert all(one.whole and len(one.events) == 100 for one in done)
        assert not gateway.idle("svc", "old"), "seen once is not seen twice"
        await until(lambda: gateway.idle("svc", "old"))
        gateway.serve("svc", setup.backends("new"))
        setup.upstreams["old"].kill()
        assert (await ask(client, base)).status_code == 200
    counts = gateway.counts()["svc"]
    assert (counts.requests, counts.errors, counts.cut) == (24 + 20 + 1, 0, 0)


async def test_a_replica_that_is_removed_with_live_streams_ends_them(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """Removal alone cuts nothing; only the end of the machine does."""
    setup.upstream("a")
    setup.upstream("b")
    gateway.serve("svc", setup.backends("a"))
    async with clients() as client:
        live = asyncio.create_task(stream(client, gateway.endpoint("svc"), tokens=50, gap=0.02))
        await until(lambda: gateway.active("svc", "a") == 1)
        await asyncio.to_thread(gateway.serve, "svc", setup.backends("b"))
        later = [await ask(client, gateway.endpoint("svc")) for _ in range(20)]
        workers = {one.json()["worker"] for one in later if one.status_code == 200}
        assert workers == {"b"}, "what is removed gets nothing new, though it is healthy"
        assert (await live).whole


async def test_nobody_notices_a_kill_before_the_first_byte(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """Thirty-two at once: Envoy's own limit is three retries at a time."""
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    base = gateway.endpoint("svc")
    async with clients() as client:
        waiting = [asyncio.create_task(ask(client, base, first=1.5)) for _ in range(32)]
        await until(lambda: gateway.active("svc", "a") == 32)
        setup.upstream("b")
        setup.upstream("c")
        await asyncio.to_thread(gateway.serve, "svc", setup.backends("a", "b", "c"))
        setup.upstreams["a"].kill()
        answers = await asyncio.gather(*waiting)
    assert [one.status_code for one in answers] == [200] * 32
    assert {one.json()["worker"] for one in answers} == {"b", "c"}
    counts = gateway.counts()["svc"]
    assert counts.retried >= 32
    assert (counts.requests, counts.errors) == (32, 0)


@pytest.mark.parametrize("size", [2_000_000, 20_000_000])
async def test_a_long_body_is_sent_again_too(
    setup: Setup, gateway: EnvoyGateway, size: int
) -> None:
    for name in ("a", "b"):
        setup.upstream(name)
    gateway.serve("svc", setup.backends("a"))
    text = "x" * size
    async with clients() as client:
        body = question(first=2.0) | {"prompt": text}
        sent = asyncio.create_task(
            client.post(f"{gateway.endpoint('svc')}/chat/completions", json=body)
        )
        await until(lambda: upstream_state(setup.upstreams["a"].port)["active"] == 1)
        await asyncio.to_thread(gateway.serve, "svc", setup.backends("a", "b"))
        setup.upstreams["a"].kill()
        answer = await sent
    assert (answer.status_code, answer.json()["worker"]) == (200, "b")
    assert answer.json()["length"] > size


async def test_an_answer_that_has_begun_is_cut_and_counted(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("a")
    setup.upstream("b")
    gateway.serve("svc", setup.backends("a", "b"))
    async with clients() as client:
        got = await stream(client, gateway.endpoint("svc"), tokens=20, gap=0.02, break_after=5)
        assert not got.whole
        assert [event["n"] for event in got.events] == list(range(5)), "nothing is repeated"
        await until(lambda: gateway.counts()["svc"].cut == 1)
    assert gateway.counts()["svc"].retried == 0


async def test_a_client_that_leaves_is_no_cut(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    async with clients() as client:
        live = asyncio.create_task(stream(client, gateway.endpoint("svc"), tokens=999, gap=0.02))
        await until(lambda: gateway.active("svc", "a") == 1)
        live.cancel()
        await until(lambda: gateway.active("svc", "a") == 0)
        await until(lambda: upstream_state(setup.upstreams["a"].port)["active"] == 0)
        await asyncio.sleep(0.7)  # the log of cuts is written every 0.5 s
    assert gateway.counts()["svc"].cut == 0


async def test_an_unhealthy_replica_gets_nothing_and_keeps_what_it_has(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    for name in ("a", "b"):
        setup.upstream(name)
    gateway.serve("svc", setup.backends("a"))
    base = gateway.endpoint("svc")
    async with clients() as client:
        live = asyncio.create_task(stream(client, base, tokens=200, gap=0.02))
        await until(lambda: gateway.active("svc", "a") == 1)
        await asyncio.to_thread(gateway.serve, "svc", setup.backends("a", "b"))
        await asyncio.to_thread(set_mode, setup.upstreams["a"].port, "unhealthy")
        for _ in range(200):
            workers = {(await ask(client, base)).json()["worker"] for _ in range(4)}
            if workers == {"b"}:
                break
            await asyncio.sleep(0.05)
        assert workers == {"b"}
        await asyncio.to_thread(set_mode, setup.upstreams["b"].port, "unhealthy")
        for _ in range(200):
            if (await ask(client, base)).status_code == 503:
                break
            await asyncio.sleep(0.05)
        asked = [await ask(client, base) for _ in range(10)]
        assert {one.status_code for one in asked} == {503}, "nor when all are unhealthy"
        assert (await live).whole


async def test_a_busy_replica_sends_the_request_on(setup: Setup, gateway: EnvoyGateway) -> None:
    """vLLM answers 503 when its queue is full, and 500 while it shuts down."""
    for name in ("a", "b"):
        setup.upstream(name)
    gateway.serve("svc", setup.backends("a", "b"))
    set_mode(setup.upstreams["a"].port, "busy")
    async with clients() as client:
        answers = await asyncio.gather(
            *(ask(client, gateway.endpoint("svc"), first=0.05) for _ in range(40))
        )
        assert {one.json()["worker"] for one in answers} == {"b"}
        set_mode(setup.upstreams["b"].port, "busy")
        busy = await ask(client, gateway.endpoint("svc"))
    assert busy.status_code == 503
    assert "busy" in busy.text, "with nobody else left, the server's own word is passed on"


async def test_without_a_replica_the_client_is_told_when_to_come_back(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("a")
    gateway.serve("svc", [])
    async with clients() as client:
        answer = await ask(client, gateway.endpoint("svc"))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["error"]["code"] == "no_replica"
        gateway.serve("svc", setup.backends("a"))
        for _ in range(100):
            if (await ask(client, gateway.endpoint("svc"))).status_code == 200:
                break
            await asyncio.sleep(0.02)
        assert (await ask(client, gateway.endpoint("svc"))).status_code == 200
    assert gateway.counts()["svc"].errors >= 1


async def test_after_a_kill_of_the_only_replica_nobody_hangs(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    base = gateway.endpoint("svc")
    async with clients() as client:
        waiting = [asyncio.create_task(ask(client, base, first=5)) for _ in range(8)]
        await until(lambda: gateway.active("svc", "a") == 8)
        setup.upstreams["a"].kill()
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert {one.status_code for one in answers} == {503}
    assert {one.headers.get("retry-after") for one in answers} == {"10"}


async def test_only_the_last_healthy_replica_is_not_drained_for_one_that_is_not(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("a")
    setup.upstream("sick")
    set_mode(setup.upstreams["sick"].port, "unhealthy")
    gateway.serve("svc", setup.backends("a"))
    with pytest.raises(GatewayError, match="a is not drained"):
        gateway.serve("svc", setup.backends("sick", a=DRAINING))
    async with clients() as client:
        assert (await ask(client, gateway.endpoint("svc"))).json()["worker"] == "a"
        setup.upstreams["a"].kill()  # now nothing is lost by the drain
        await until(lambda: _drains(setup, gateway))
        set_mode(setup.upstreams["sick"].port, "ok")


def _drains(setup: Setup, gateway: EnvoyGateway) -> bool:
    with suppress(GatewayError):
        gateway.serve("svc", setup.backends("sick", a=DRAINING))
        return True
    return False


async def test_an_ordered_end_drains_the_last_one(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    async with clients() as client:
        live = asyncio.create_task(stream(client, gateway.endpoint("svc"), tokens=50, gap=0.02))
        await until(lambda: gateway.active("svc", "a") == 1)
        await asyncio.to_thread(gateway.serve, "svc", setup.backends(a=DRAINING))
        assert (await ask(client, gateway.endpoint("svc"))).status_code == 503
        assert (await live).whole


async def test_replicas_are_replaced_again_and_again_and_nobody_notices(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """Make before break, eight times, as the loop does it: add, drain, wait until idle, end."""
    setup.upstream("r0", "key-0")
    gateway.serve("svc", setup.backends("r0"))
    base = gateway.endpoint("svc")
    stop = asyncio.Event()
    failed: list[str] = []
    done = 0

    async def load(long: bool) -> None:
        nonlocal done
        async with clients() as client:
            while not stop.is_set():
                try:
                    if long:
                        got = await stream(client, base, tokens=25, gap=0.02)
                        good = got.whole and len(got.events) == 25
                    else:
                        good = (await ask(client, base, first=0.05)).status_code == 200
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                else:
                    done += 1
                    failed.extend([] if good else ["not whole"])

    working = [asyncio.create_task(load(number % 2 == 0)) for number in range(12)]
    for number in range(8):
        old, new = f"r{number}", f"r{number + 1}"
        await asyncio.to_thread(setup.upstream, new, f"key-{number + 1}")
        await asyncio.to_thread(gateway.serve, "svc", setup.backends(new, **{old: DRAINING}))
        await until(lambda cluster=old: gateway.idle("svc", cluster))  # type: ignore[misc]
        await asyncio.to_thread(gateway.serve, "svc", setup.backends(new))
        setup.upstreams[old].kill()
    stop.set()
    await asyncio.gather(*working)
    assert failed == []
    assert done > 100
    counts = gateway.counts()["svc"]
    assert (counts.requests, counts.errors, counts.cut) == (done, 0, 0)


# --- the external API -------------------------------------------------------------------------


async def test_an_external_api_answers_only_while_no_replica_can(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    for name in ("a", "b", "c"):
        setup.upstream(name, key=f"key-of-{name}")
    outside = setup.upstream("outside", key="key-of-outside")
    backends = [
        *setup.backends("a", "b", "c"),
        Backend("api", f"http://localhost:{outside.port}/v1", "key-of-outside", None, STANDBY),
    ]
    gateway.serve("svc", backends)
    base = gateway.endpoint("svc")
    async with clients() as client:

        async def workers(number: int) -> set[str]:
            answers = [await ask(client, base) for _ in range(number)]
            assert [one.status_code for one in answers] == [200] * number
            return {one.json()["worker"] for one in answers}

        assert await workers(12) <= {"a", "b", "c"}
        setup.upstreams["a"].kill()
        setup.upstreams["b"].kill()
        # With two thirds lost Envoy would send a share outside, were it not told otherwise.
        await asyncio.sleep(2.5)
        assert await workers(30) == {"c"}
        setup.upstreams["c"].kill()
        await asyncio.sleep(2.5)
        assert await workers(10) == {"outside"}
        told = upstream_state(outside.port)
        assert told["last"]["headers"]["host"] == "localhost"
        assert set(told["keys"]) == {"Bearer key-of-outside"}
        setup.upstream("d", "key-of-d")
        gateway.serve("svc", [*setup.backends("d"), backends[-1]])
        for _ in range(100):
            if await workers(1) == {"d"}:
                break
            await asyncio.sleep(0.02)
        assert await workers(10) == {"d"}
        gateway.serve("svc", setup.backends("d"))
        assert await workers(3) == {"d"}
    counts = gateway.counts()["svc"]
    assert (counts.errors, counts.cut) == (0, 0)


async def test_a_standby_comes_and_goes_and_nobody_notices(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """A route must never lead to a cluster that is not there yet, or not any more."""
    setup.upstream("a")
    outside = setup.upstream("outside")
    spare = Backend("api", f"http://localhost:{outside.port}", None, None, STANDBY)
    gateway.serve("svc", setup.backends("a"))
    base = gateway.endpoint("svc")
    stop = asyncio.Event()
    statuses: list[int] = []

    async def load() -> None:
        async with clients() as client:
            while not stop.is_set():
                statuses.append((await ask(client, base)).status_code)

    working = [asyncio.create_task(load()) for _ in range(8)]
    rounds = 0
    while rounds < 10 or len(statuses) <= 100:
        await asyncio.to_thread(gateway.serve, "svc", [*setup.backends("a"), spare])
        await asyncio.to_thread(gateway.serve, "svc", setup.backends("a"))
        rounds += 1
    stop.set()
    await asyncio.gather(*working)
    assert len(statuses) > 100
    assert set(statuses) == {200}
