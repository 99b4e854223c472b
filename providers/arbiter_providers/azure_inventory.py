"""The machines that Azure has under our tag, in all subscriptions that the account sees.

One query to the Resource Graph lists them; `DELETE` on the machine's own id ends it, and its disk
with it, which SkyPilot makes so. The network that SkyPilot made for it costs nothing and stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from arbiter.clock import SystemClock
from arbiter.errors import BadAnswer
from arbiter.inventory import CLUSTER_TAG, OWNER_TAG, Machine
from arbiter.provider import ProviderSettings
from arbiter.typed import decode
from arbiter_providers._http import Http, Rejected
from arbiter_providers.azure_graph import ask, authorization, management, rows

API = "2024-07-01"


class _Row(msgspec.Struct, frozen=True):
    id: str
    name: str
    location: str
    zone: str | None = None
    owner: str | None = None
    cluster: str | None = None


class AzureInventory:
    """Virtual machines. Needs Reader, and Virtual Machine Contributor to end one."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def machines(self, owner: str, _regions: Collection[str]) -> Sequence[Machine]:
        """The owner's machines, wherever they are."""
        found = []
        for page in ask("machines", _query(owner), self._settings, SystemClock()):
            for raw in rows(page.body)[0]:
                try:
                    row = decode(raw, _Row)
                except msgspec.MsgspecError as error:
                    raise BadAnswer(f"azure: a machine cannot be read: {error}") from error
                found.append(
                    Machine(
                        "azure", row.id, row.location, row.name, row.zone, row.owner, row.cluster
                    )
                )
        return found

    def end(self, machine: Machine) -> None:
        """Delete it."""
        clock = SystemClock()
        headers = authorization(self._settings, clock)
        url = f"{management(self._settings)}{machine.id}?api-version={API}&forceDeletion=true"
        with Http("azure", self._settings, headers=headers, clock=clock) as http:
            try:
                http.change("DELETE", url)
            except Rejected as error:
                if error.status != 404:
                    raise


def _query(owner: str) -> str:
    if not owner.isalnum():
        raise BadAnswer(f"azure: {owner!a} is no owner's name")
    return "\n| ".join(
        (
            "Resources",
            "where type =~ 'microsoft.compute/virtualmachines'",
            f"where tostring(tags['{OWNER_TAG}']) == '{owner}'",
            f"project id, name, location, zone = tostring(zones[0]), "
            f"owner = tostring(tags['{OWNER_TAG}']), cluster = tostring(tags['{CLUSTER_TAG}'])",
            "order by id asc",
        )
    )
