"""Questions to a running Envoy, over its administration socket.

The socket is a file that this user alone can open. Whoever can may read every key in Envoy's
configuration and end the process, so nothing of it is passed on but numbers and names.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from arbiter.errors import GatewayError
from arbiter.gateway.boot import ADMIN_SOCKET

TIMEOUT_S = 3.0

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Host:
    """A backend as Envoy sees it.

    Attributes:
        healthy: it is given new requests.
        active: requests that it is answering.
        total: requests that it was ever given.
    """

    healthy: bool
    active: int
    total: int


class Admin:
    """The administration of one Envoy.

    Args:
        folder: the one that it was started in.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ready(self) -> bool:
        """Whether it answers, and has read its configuration."""
        try:
            return self._ask("GET", "/ready", accept=(200, 503))[0] == 200
        except GatewayError:
            return False

    def version(self) -> str:
        """The program's version ("1.40.0")."""
        told = str(self._json("/server_info").get("version", ""))
        return told.split("/")[1] if told.count("/") > 1 else told

    def stats(self, pattern: str) -> Mapping[str, int | str]:
        """Name -> value of the counters, gauges and texts whose name the pattern matches.

        Args:
            pattern: a regular expression of RE2, searched for in the name.
        """
        told = self._json(f"/stats?format=json&filter={quote(pattern)}")
        return {
            entry["name"]: entry["value"]
            for entry in told.get("stats", ())
            if "name" in entry and isinstance(entry.get("value"), int | str)
        }

    def hosts(self) -> Mapping[str, Mapping[Address, Host]]:
        """Envoy's cluster -> address -> backend."""
        told = self._json("/clusters?format=json")
        return {
            cluster["name"]: dict(_host(one) for one in cluster.get("host_statuses", ()))
            for cluster in told.get("cluster_statuses", ())
        }

    def begin_drain(self) -> None:
        """Take new connections for a moment more, then none; what was begun goes on."""
        self._ask("POST", "/healthcheck/fail")
        self._ask("POST", "/drain_listeners?graceful&skip_exit")

    def _json(self, path: str) -> dict[str, Any]:
        _, body = self._ask("GET", path)
        try:
            told = json.loads(body)
        except ValueError:
            raise GatewayError("the gateway's administration answered rubbish") from None
        return told if isinstance(told, dict) else {}

    def _ask(self, method: str, path: str, accept: tuple[int, ...] = (200,)) -> tuple[int, bytes]:
        connection = _Connection(self._folder)
        try:
            connection.request(method, path, headers={"Host": "admin"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise GatewayError(
                f"the gateway's administration does not answer ({type(error).__name__})"
            ) from None
        finally:
            connection.close()
        if response.status not in accept:
            question = path.partition("?")[0]
            raise GatewayError(
                f"the gateway's administration answered {response.status} to {question}"
            )
        return response.status, body


class _Connection(http.client.HTTPConnection):
    """HTTP to a socket in a folder, however long the folder's name is."""

    def __init__(self, folder: Path) -> None:
        super().__init__("admin", timeout=TIMEOUT_S)
        self._folder = folder

    def connect(self) -> None:
        """Reach the socket by its folder's descriptor: a socket's path has at most 107 bytes."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{ADMIN_SOCKET}")
        finally:
            os.close(folder)


def _host(told: Mapping[str, Any]) -> tuple[Address, Host]:
    """A number that is zero is left out by Envoy."""
    address = told["address"]
    place = address.get("socket_address") or {"address": address["pipe"]["path"], "port_value": 0}
    figures = {one["name"]: int(one.get("value", 0)) for one in told.get("stats", ())}
    health = told.get("health_status", {})
    troubles = {name for name, value in health.items() if value is True}
    healthy = not troubles and health.get("eds_health_status", "HEALTHY") == "HEALTHY"
    return (place["address"], int(place["port_value"])), Host(
        healthy, figures.get("rq_active", 0), figures.get("rq_total", 0)
    )
