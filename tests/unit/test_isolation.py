"""The tests' own walls: no network but loopback, nobody's settings, a home of its own."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from pytest_socket import SocketConnectBlockedError


@pytest.mark.filterwarnings("ignore:A test tried to use")
@pytest.mark.parametrize("address", ["192.0.2.1", "169.254.169.254", "example.invalid"])
def test_nothing_beyond_loopback_is_reached(address: str) -> None:
    with socket.socket() as client, pytest.raises(SocketConnectBlockedError):
        client.connect((address, 80))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.10.3"])
def test_loopback_is_reached(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        accepting = threading.Thread(target=lambda: server.accept()[0].close())
        accepting.start()
        with socket.create_connection(server.getsockname(), timeout=5):
            accepting.join(5)
        assert not accepting.is_alive()


def test_no_setting_or_credential_is_inherited() -> None:
    inherited = [name for name in os.environ if name.startswith(("ARBITER_", "AZURE_", "HF_"))]
    assert set(inherited) <= {"ARBITER_CI", "ARBITER_E2E_CACHE"}
    assert [name for name in os.environ if name.startswith("AWS_")] == ["AWS_EC2_METADATA_DISABLED"]


def test_the_home_is_not_the_users() -> None:
    import platformdirs

    for folder in (Path.home(), platformdirs.user_data_path("arbiter")):
        assert folder.is_relative_to(tempfile.gettempdir())
        assert "arbiter-home-" in str(folder) or "xdg" in str(folder)
