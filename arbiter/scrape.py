"""Reads the /metrics of many servers at once, within a time that no server can stretch."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime
from urllib.parse import urlsplit

from arbiter.counters import Counters, parse_counters

MOST_BYTES = 2 << 20
"""Of a page; one of vLLM 0.32 has 50 KB for an engine. A longer one is not read to its end."""

AT_ONCE = 32


class HttpCounters:
    """GET /metrics of every server, in parallel.

    A server that answers slowly, with rubbish, too much or not at all is left out.

    Args:
        api_key: sent along, for whoever guards the path.
        within_s: seconds that all answers together may take: the connections that are open then
            are cut.
    """

    def __init__(self, api_key: str, within_s: float = 2.0) -> None:
        self._api_key = api_key
        self._within_s = within_s

    def read(self, endpoints: Mapping[str, str], now: datetime) -> Mapping[str, Counters]:
        """The counters of those that tell, by cluster."""
        if not endpoints:
            return {}
        asked = {name: _Question(url, self._within_s) for name, url in endpoints.items()}
        with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(asked))) as pool:
            pages = {
                pool.submit(question.ask, self._api_key): name for name, question in asked.items()
            }
            done, late = wait(pages, self._within_s)
            for page in late:
                page.cancel()
                asked[pages[page]].cut()
        found = {pages[page]: page.result() for page in done}
        parsed = {name: parse_counters(text, now) for name, text in found.items() if text}
        return {name: one for name, one in parsed.items() if one is not None}


class _Question:
    """One GET, which another thread may cut."""

    def __init__(self, endpoint: str, patience_s: float) -> None:
        self._url = urlsplit(endpoint)
        make = (
            http.client.HTTPSConnection
            if self._url.scheme == "https"
            else http.client.HTTPConnection
        )
        self._connection = make(self._url.hostname or "", self._url.port, timeout=patience_s)
        self._socket: socket.socket | None = None  # the connection's, which lets go of it early
        self._is_cut = False

    def ask(self, api_key: str) -> str:
        """The page, or "" where there is none."""
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            if self._is_cut:
                return ""
            path = self._url.path.rstrip("/") + "/metrics"
            self._connection.request("GET", path, headers={"Authorization": f"Bearer {api_key}"})
            response = self._connection.getresponse()
            body = response.read(MOST_BYTES + 1) if response.status == 200 else b""
            return body.decode("utf-8", "replace") if len(body) <= MOST_BYTES else ""
        except (OSError, http.client.HTTPException, ValueError):
            return ""
        finally:
            self._connection.close()

    def cut(self) -> None:
        """End what is going on: its thread meets an error at once."""
        self._is_cut = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
