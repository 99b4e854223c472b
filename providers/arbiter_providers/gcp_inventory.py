"""The machines that GCP has under our label, in all zones of a project, by the Compute API."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from arbiter.clock import SystemClock
from arbiter.errors import BadAnswer, MissingCredentials
from arbiter.inventory import CLUSTER_TAG, OWNER_TAG, Machine
from arbiter.provider import ProviderSettings
from arbiter_providers._http import Http, Rejected
from arbiter_providers._rows import open_page
from arbiter_providers.gcp_account import Account

ENDPOINT = "https://compute.googleapis.com"
MOST_PAGES = 100


class _Instance(msgspec.Struct, frozen=True):
    name: str
    zone: str  # the last part of a URL
    status: str = ""
    labels: dict[str, str] = {}


class _Zone(msgspec.Struct, frozen=True):
    instances: list[_Instance] = []


class _Page(msgspec.Struct, frozen=True):
    kind: str  # required: an answer without it is none
    items: dict[str, _Zone] = {}
    nextPageToken: str = ""


_read = msgspec.json.Decoder(_Page).decode


class GcpInventory:
    """Compute Engine's machines. Needs `roles/compute.viewer`, and compute.instances.delete.

    A stopped machine (TERMINATED in GCP's words) costs its disk; it is listed too.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._account = Account(settings)

    def machines(self, owner: str, _regions: Collection[str]) -> Sequence[Machine]:
        """The owner's machines, wherever they are."""
        found: list[Machine] = []
        with self._http() as http:
            base = f"{self._base}/aggregated/instances"
            query = {"filter": f"labels.{OWNER_TAG}={owner}", "maxResults": "500"}
            for _ in range(MOST_PAGES):
                page = open_page("gcp: the machines", http.get(base, query), _read)
                found += [_machine(one) for zone in page.items.values() for one in zone.instances]
                if not page.nextPageToken:
                    return found
                query = {**query, "pageToken": page.nextPageToken}
        raise BadAnswer("gcp: the list of machines does not end")

    def end(self, machine: Machine) -> None:
        """Delete it, with its disk where SkyPilot has made that so."""
        with self._http() as http:
            try:
                http.change("DELETE", f"{self._base}/zones/{machine.zone}/instances/{machine.id}")
            except Rejected as error:
                if error.status != 404:
                    raise

    @property
    def _base(self) -> str:
        project = self._account.project
        if project is None:
            raise MissingCredentials(
                "gcp: no project to list machines of", "export GOOGLE_CLOUD_PROJECT=..."
            )
        root = (self._settings.endpoint or ENDPOINT).rstrip("/")
        return f"{root}/compute/v1/projects/{project}"

    def _http(self) -> Http:
        login = self._account.credentials()
        if login is None:
            raise MissingCredentials(
                "gcp: no credentials to list machines with",
                "gcloud auth application-default login",
            )
        return Http(
            "gcp",
            self._settings,
            headers=login.headers,
            credentials=login.what,
            clock=SystemClock(),
        )


def _machine(found: _Instance) -> Machine:
    zone = found.zone.rsplit("/", 1)[-1]
    return Machine(
        provider="gcp",
        id=found.name,
        region=zone.rsplit("-", 1)[0],
        name=found.name,
        zone=zone,
        owner=found.labels.get(OWNER_TAG),
        cluster=found.labels.get(CLUSTER_TAG),
    )
