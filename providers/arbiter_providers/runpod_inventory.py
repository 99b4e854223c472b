"""The pods that RunPod has under our name: a pod has no tags.

https://rest.runpod.io/v1, documented by its OpenAPI file: `GET /pods` lists them with their state
and, asked to, their machine's data centre; `DELETE /pods/ID` ends one, its disk included. A stopped
pod (EXITED) goes on costing its disk.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

import msgspec

from arbiter.clock import SystemClock
from arbiter.inventory import Machine
from arbiter.money import Price
from arbiter.provider import ProviderSettings
from arbiter_providers._account import key, key_variable
from arbiter_providers._http import Http, Rejected
from arbiter_providers._rows import open_page
from arbiter_providers.runpod import KEY, NOWHERE

ENDPOINT, PREFIX = "https://rest.runpod.io", "/v1"
ENDED = "TERMINATED"


class _Where(msgspec.Struct, frozen=True):
    dataCenterId: str | None = None


class _Pod(msgspec.Struct, frozen=True):
    id: str
    name: str | None = None
    desiredStatus: str = ""
    machine: _Where | None = None
    costPerHr: Decimal | None = None


_read = msgspec.json.Decoder(list[_Pod]).decode


class RunPodInventory:
    """RunPod's pods. `options.rest_endpoint` takes the place of https://rest.runpod.io."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def machines(self, owner: str, _regions: Collection[str]) -> Sequence[Machine]:
        """The owner's pods, wherever they are."""
        with self._http() as http:
            body = http.get(f"{self._base}/pods", {"includeMachine": "true"})
        return [
            Machine("runpod", one.id, _region(one), one.name or "", price=_price(one))
            for one in open_page("runpod: the pods", body, _read)
            if one.desiredStatus != ENDED and (one.name or "").startswith(f"arb-{owner}-")
        ]

    def end(self, machine: Machine) -> None:
        """Delete it."""
        with self._http() as http:
            try:
                http.change("DELETE", f"{self._base}/pods/{machine.id}")
            except Rejected as error:
                if error.status != 404:
                    raise

    @property
    def _base(self) -> str:
        root = str(self._settings.options.get("rest_endpoint") or ENDPOINT).rstrip("/")
        return root if root.endswith(PREFIX) else root + PREFIX

    def _http(self) -> Http:
        variable = key_variable(self._settings, KEY)
        headers = {"Authorization": f"Bearer {key('runpod', variable)}"}
        return Http(
            "runpod", self._settings, headers=headers, credentials=variable, clock=SystemClock()
        )


def _price(pod: _Pod) -> Price | None:
    cost = pod.costPerHr
    return Price.of(cost) if cost is not None and cost > 0 else None


def _region(pod: _Pod) -> str:
    return (pod.machine.dataCenterId if pod.machine else None) or NOWHERE
