"""The waiting room by itself: what a request must say, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path

import pytest

from arbiter.gateway.base import Backend, BackendState, waiting_room
from arbiter.gateway.clusters import cluster_names, clusters, helper
from arbiter.gateway.routes import routes
from arbiter.gateway.state import State
from arbiter.gateway.waiting import SINCE, Ticket, held_as
from arbiter.gateway.waiting_room import WaitingRoom, listen

HELD = waiting_room("tiny", 60, 2)


def head(since: float | None = None, hold_s: float = 60, most: int = 2, body: str = "") -> bytes:
    since = time.time() if since is None else since
    ticket = held_as("svc", hold_s, most)
    return (
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\n"
        f"Authorization: Bearer {ticket}\r\n{SINCE}: {since:.3f}\r\n{body}"
    ).encode()


def test_a_ticket_says_who_until_when_and_among_how_many() -> None:
    headers = {"authorization": f"Bearer {held_as('svc', 1.5, 7)}", SINCE: "1000.000"}
    assert Ticket.read(headers, 1000.5) == Ticket("svc", 1001.5, 7)
    assert Ticket.read(headers, 900.0).until == 901.5, "a clock set back gives nobody more time"


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer sk-1", SINCE: "1"}, {"authorization": "Bearer svc 1 2"},
     {"authorization": "Bearer svc x 2", SINCE: "1"}],
)  # fmt: skip
def test_what_has_no_ticket_is_none_of_ours(headers: dict[str, str]) -> None:
    with pytest.raises((ValueError, LookupError)):
        Ticket.read(headers, 0.0)


class Door:
    """A room in this program, and clients at its socket."""

    def __init__(self, folder: Path) -> None:
        self.serving: frozenset[str] = frozenset()
        self.asked = 0
        self._folder = folder
        self._room = WaitingRoom(self._ask)

    def _ask(self) -> frozenset[str]:
        self.asked += 1
        return self.serving

    async def __aenter__(self) -> Door:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path = str(self._folder / "s")
        listener.bind(self.path)
        listener.listen()
        self._task = asyncio.create_task(self._room.run(listener))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._room.end()
        await asyncio.wait_for(self._task, 20)

    def end(self) -> None:
        self._room.end()

    async def send(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(data)
        await writer.drain()
        return reader, writer


async def answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and code."""
    lines = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().split("\r\n")
    length = next(int(line[16:]) for line in lines if line.startswith("content-length: "))
    body = json.loads(await reader.readexactly(length))
    assert "retry-after: 10" in lines
    return int(lines[0].split(" ")[1]), body["error"]["code"]


@pytest.mark.parametrize(
    "body",
    ["\r\n", "content-length: 5\r\n\r\nhello",
     "transfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n3\r\nabc\r\n0\r\nt: 1\r\n\r\n"],
)  # fmt: skip
def test_it_lets_go_when_a_replica_serves_and_the_connection_stays(
    tmp_path: Path, body: str
) -> None:
    async def check() -> None:
        async with Door(tmp_path) as door:
            reader, writer = await door.send(head(body=body))
            while door.asked < 3:
                await asyncio.sleep(0.01)
            door.serving = frozenset({"other", "svc"})
            assert await answer(reader) == (503, "no_replica")
            writer.write(head(body=body))
            assert await answer(reader) == (503, "no_replica"), "the next on the connection"
            writer.close()

    asyncio.run(check())


def test_it_asks_nobody_while_it_holds_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        async with Door(tmp_path) as door:
            reader, writer = await door.send(head(hold_s=0.2, body="\r\n"))
            assert await answer(reader) == (503, "no_replica")
            asked = door.asked
            await asyncio.sleep(0.5)
            assert door.asked <= asked + 1
            writer.close()

    asyncio.run(check())


def test_who_is_one_too_many_is_told_and_who_left_is_not_counted(tmp_path: Path) -> None:
    async def check() -> None:
        async with Door(tmp_path) as door:
            first = [await door.send(head(body="\r\n")) for _ in range(2)]
            while door.asked < 2:
                await asyncio.sleep(0.01)
            reader, writer = await door.send(head(body="content-length: 3\r\n\r\nabc"))
            assert await answer(reader) == (429, "too_many_waiting")
            first[0][1].close()
            while True:
                writer.write(head(hold_s=0, body="\r\n"))
                if await answer(reader) == (503, "no_replica"):
                    break
            for _, one in (*first, (reader, writer)):
                one.close()

    asyncio.run(check())


def test_at_its_end_everybody_is_let_go_at_once(tmp_path: Path) -> None:
    async def check() -> None:
        async with Door(tmp_path) as door:
            held = [await door.send(head(body="\r\n")) for _ in range(2)]
            while not door.asked:
                await asyncio.sleep(0.01)
            door.end()
            assert [await answer(reader) for reader, _ in held] == [(503, "no_replica")] * 2
            for _, writer in held:
                writer.close()

    asyncio.run(check())


def test_rubbish_ends_its_connection_alone(tmp_path: Path) -> None:
    async def check() -> None:
        async with Door(tmp_path) as door:
            good, kept = await door.send(head(body="\r\n"))
            for rubbish in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"\r\n\r\n",
                head(body="content-length: x\r\n\r\n"),
            ):
                reader, writer = await door.send(rubbish)
                assert await asyncio.wait_for(reader.read(), 20) == b""
                writer.close()
            door.serving = frozenset({"svc"})
            assert await answer(good) == (503, "no_replica")
            kept.close()

    asyncio.run(check())


def test_a_new_room_takes_the_socket_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = tmp_path / ("deep-" * 20) / ("deeper-" * 20)
    state.mkdir(parents=True)
    with listen(state), listen(state):
        assert [path.name for path in state.iterdir()] == ["waiting.sock"]


# --- what Envoy is told -------------------------------------------------------------------------


def test_only_a_service_that_holds_has_a_way_to_the_room() -> None:
    assert cluster_names({"a": [HELD], "b": [waiting_room("x", 0, 2)]}) == {
        "a", "a.either", "a.waiting", "b",
    }  # fmt: skip
    own, room, both = clusters("/conf", "a", [HELD], "/ca")
    (where,) = room["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert where["endpoint"]["address"] == {"pipe": {"path": "../waiting.sock"}}
    assert both["cluster_type"]["typed_config"]["clusters"] == ["a", "a.waiting"]
    assert own["type"] == "EDS"


def test_an_external_api_comes_before_the_room() -> None:
    api = Backend("api", "https://api.example", None, None, BackendState.STANDBY)
    assert helper("a", [HELD, api]) == "a.standby"


def test_a_model_is_known_while_nothing_runs() -> None:
    told = json.dumps(routes({"a": [HELD], "b": [waiting_room("other", 0, 2)]}, ["key-of-client"]))
    assert '"exact": "tiny"' in told
    assert '"exact": "other"' in told
    assert told.count(SINCE) == 2, "on the way by the path and on the one by the model"


def test_what_was_told_is_remembered(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.keep_services({"a": [HELD]})
    assert state.services() == {"a": (HELD,)}
