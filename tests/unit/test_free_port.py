"""A port for a server that starts later."""

from __future__ import annotations

import socket

import pytest

import arbiter.free_port
from arbiter.free_port import PORTS, free_port

LINUX_CLIENTS = range(32_768, 61_000)
"""As Linux comes (Documentation/networking/ip-sysctl, ip_local_port_range); others begin higher."""


def test_a_server_can_listen_on_it() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass


def test_who_listens_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_port()
    monkeypatch.setattr(arbiter.free_port, "PORTS", (first,))
    assert free_port() == first
    with (
        socket.create_server(("127.0.0.1", first)),
        pytest.raises(OSError, match=f"from {first} to {first} is free"),
    ):
        free_port()


def test_none_of_them_is_given_to_clients() -> None:
    assert not {*PORTS} & {*LINUX_CLIENTS}
