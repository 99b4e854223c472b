"""The machines that Verda has under our name: it has no tags.

https://api.verda.com/v1: `GET /instances` lists them, `PUT /instances` with the action "delete"
ends one. Its volumes are deleted with it. Shapes as in SkyPilot's client.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from arbiter.clock import SystemClock
from arbiter.inventory import Machine
from arbiter.provider import ProviderSettings
from arbiter_providers._account import base_url
from arbiter_providers._http import Http, Rejected
from arbiter_providers._rows import open_page
from arbiter_providers.verda import ENDPOINT, PREFIX, sign_in

ENDED = frozenset({"deleting", "discontinued", "notfound"})


class _Instance(msgspec.Struct, frozen=True):
    id: str
    hostname: str = ""
    status: str = ""
    location: str = ""


_read = msgspec.json.Decoder(list[_Instance]).decode


class VerdaInventory:
    """Verda's machines."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def machines(self, owner: str, _regions: Collection[str]) -> Sequence[Machine]:
        """The owner's machines, wherever they are."""
        with self._http() as http:
            found = open_page("verda: the machines", http.get(f"{self._base}/instances"), _read)
        return [
            Machine("verda", one.id, one.location or "unknown", one.hostname)
            for one in found
            if one.status not in ENDED and one.hostname.startswith(f"arb-{owner}-")
        ]

    def end(self, machine: Machine) -> None:
        """Delete it."""
        with self._http() as http:
            try:
                http.change(
                    "PUT", f"{self._base}/instances", json={"id": machine.id, "action": "delete"}
                )
            except Rejected as error:
                if error.status != 404:
                    raise

    @property
    def _base(self) -> str:
        return base_url(self._settings, ENDPOINT, PREFIX)

    def _http(self) -> Http:
        token, held_in = sign_in(self._settings, self._base, SystemClock())
        headers = {"Authorization": f"Bearer {token}"}
        return Http(
            "verda", self._settings, headers=headers, credentials=held_in, clock=SystemClock()
        )
