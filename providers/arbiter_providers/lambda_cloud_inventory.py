"""The machines that Lambda has under our name: it has no tags that SkyPilot sets.

`GET /api/v1/instances` lists them, `POST /api/v1/instance-operations/terminate` ends one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

import msgspec

from arbiter.clock import SystemClock
from arbiter.inventory import Machine
from arbiter.money import Price
from arbiter.provider import ProviderSettings
from arbiter_providers._account import base_url, key, key_variable
from arbiter_providers._http import Http, Rejected
from arbiter_providers._rows import open_page
from arbiter_providers.lambda_cloud import ENDPOINT, KEY, PREFIX

ENDED = frozenset({"terminated", "terminating"})


class _Region(msgspec.Struct, frozen=True):
    name: str


class _Type(msgspec.Struct, frozen=True):
    price_cents_per_hour: Decimal | None = None  # US cents


class _Instance(msgspec.Struct, frozen=True):
    id: str
    region: _Region
    instance_type: _Type | None = None
    name: str | None = None
    status: str = ""


class _Page(msgspec.Struct, frozen=True):
    data: list[_Instance]


_read = msgspec.json.Decoder(_Page).decode


class LambdaInventory:
    """Lambda's machines."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def machines(self, owner: str, _regions: Collection[str]) -> Sequence[Machine]:
        """The owner's machines, wherever they are."""
        with self._http() as http:
            page = open_page("lambda: the machines", http.get(f"{self._base}/instances"), _read)
        return [
            Machine("lambda", one.id, one.region.name, one.name or "", price=_price(one))
            for one in page.data
            if one.status not in ENDED and (one.name or "").startswith(f"arb-{owner}-")
        ]

    def end(self, machine: Machine) -> None:
        """Terminate it."""
        with self._http() as http:
            try:
                http.post(
                    f"{self._base}/instance-operations/terminate",
                    json={"instance_ids": [machine.id]},
                )
            except Rejected as error:
                if error.status != 404:
                    raise

    @property
    def _base(self) -> str:
        return base_url(self._settings, ENDPOINT, PREFIX)

    def _http(self) -> Http:
        variable = key_variable(self._settings, KEY)
        headers = {"Authorization": f"Bearer {key('lambda', variable)}"}
        return Http(
            "lambda", self._settings, headers=headers, credentials=variable, clock=SystemClock()
        )


def _price(machine: _Instance) -> Price | None:
    cents = machine.instance_type.price_cents_per_hour if machine.instance_type else None
    return Price.of(cents / 100) if cents is not None and cents > 0 else None
