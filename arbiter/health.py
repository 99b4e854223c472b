"""Our own word on whether a replica serves: it answers, and with the right model.

A cloud that calls a machine running, and SkyPilot that calls it up, say nothing of the server.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Health:
    """The result of one check.

    Attributes:
        serving: it answers, and lists the model that it should.
        reason: why not, in a few words.
    """

    serving: bool
    reason: str = ""


class HealthCheck(Protocol):
    """Asks replicas whether they serve."""

    def check(
        self, endpoints: Mapping[str, str], models: Mapping[str, str]
    ) -> Mapping[str, Health]:
        """Check all at once.

        Args:
            endpoints: cluster -> base URL.
            models: cluster -> the name that its server must list.
        """
        ...


class HttpHealthCheck:
    """GET /health and /v1/models, in parallel, each within a deadline.

    Args:
        api_key: sent to /v1 paths only.
        timeout_s: seconds for each request.
    """

    def __init__(self, api_key: str, timeout_s: float = 3.0) -> None:
        self._api_key = api_key
        self._timeout_s = timeout_s

    def check(
        self, endpoints: Mapping[str, str], models: Mapping[str, str]
    ) -> Mapping[str, Health]:
        """Check all at once; a failure is tried once more before it is believed."""
        if not endpoints:
            return {}
        with ThreadPoolExecutor(max_workers=min(16, len(endpoints))) as pool:
            results = {
                cluster: pool.submit(self._twice, endpoint, models[cluster])
                for cluster, endpoint in endpoints.items()
            }
        return {cluster: result.result() for cluster, result in results.items()}

    def _twice(self, endpoint: str, model: str) -> Health:
        first = self._once(endpoint, model)
        return first if first.serving else self._once(endpoint, model)

    def _once(self, endpoint: str, model: str) -> Health:
        try:
            status, _ = self._get(endpoint, "/health")
            if status != 200:
                return Health(False, f"/health answered {status}")
            status, body = self._get(endpoint, "/v1/models")
            if status != 200:
                return Health(False, f"/v1/models answered {status}")
            listed = [entry["id"] for entry in json.loads(body)["data"]]
        except (OSError, http.client.HTTPException) as error:
            return Health(False, f"no answer ({type(error).__name__})")
        except (ValueError, KeyError, TypeError):
            return Health(False, "/v1/models answered rubbish")
        if model not in listed:
            return Health(
                False, f"it serves {', '.join(map(str, listed)) or 'nothing'}, not {model}"
            )
        return Health(True)

    def _get(self, endpoint: str, path: str) -> tuple[int, bytes]:
        url = urlsplit(endpoint)
        make = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = make(url.hostname or "", url.port, timeout=self._timeout_s)
        headers = {"Authorization": f"Bearer {self._api_key}"} if path.startswith("/v1") else {}
        try:
            connection.request("GET", url.path.rstrip("/") + path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_BODY)
        finally:
            connection.close()
