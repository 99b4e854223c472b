"""The ports of a simulated world stay its own, whatever else the machine connects to."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import simaws.ports
from simaws.ports import KeptPorts, queue_port


@pytest.fixture
def ports() -> Iterator[KeptPorts]:
    kept = KeptPorts()
    yield kept
    kept.close()


@pytest.mark.parametrize("name", ["aws", "api", "queue"])
def test_a_server_listens_on_a_kept_port_and_again_after_a_restart(
    ports: KeptPorts, name: str
) -> None:
    address = ("127.0.0.1", getattr(ports, name))
    for _ in range(2):
        with socket.create_server(address), socket.create_connection(address):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest.mark.parametrize("name", ["aws", "api", "queue"])
def test_nobody_else_is_given_a_kept_port(ports: KeptPorts, name: str) -> None:
    with socket.socket() as client, pytest.raises(OSError, match="in use"):
        client.bind(("127.0.0.1", getattr(ports, name)))


def test_a_connection_that_just_ended_has_no_place_in_the_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = port_of_a_connection_that_just_ended()
    derived = iter([ended])
    monkeypatch.setattr(simaws.ports, "queue_port", lambda api: next(derived, queue_port(api)))
    ports = KeptPorts()
    ports.close()
    assert next(derived, None) is None
    assert ports.queue == queue_port(ports.api) != ended


def test_the_queue_is_where_skypilot_puts_it(
    ports: KeptPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    mp_queue = pytest.importorskip("sky.server.requests.queues.mp_queue")
    for api in (46_580, 40_919, 32_768, 60_999, ports.api):
        monkeypatch.setenv("SKYPILOT_API_SERVER_LOCAL_PORT", str(api))
        assert queue_port(api) == mp_queue.get_queue_manager_port()


def port_of_a_connection_that_just_ended() -> int:
    """The client's; the kernel keeps it from servers for a minute (TIME_WAIT)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        port: int = client.getsockname()[1]
        client.close()
        with accepted:
            accepted.recv(1)
    return port
