"""Replicas on clouds, through SkyPilot's API server.

Nothing is kept here that a crash could lose. What is known of a cluster is put together, on every
look, from three memories of the API server:

    requests   every launch and down, until the server restarts or they grow old
    clusters   what stands on the books, until it is ended or found to be gone
    past       the names of all that ever stood there

A launch request is the authority on its launch: SkyPilot may show a cluster as up whose launch
failed. Such a cluster is ended here, and only called failed once it has left the books.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from arbiter.domain import Offer, Purchase
from arbiter.errors import ArbiterError, LaunchError, LaunchRejected
from arbiter.executors import aws_zones, sky_places
from arbiter.executors.aws_zones import AwsZones, Zones
from arbiter.executors.base import LaunchSpec, Phase, Sighting, is_foreign, taken_name
from arbiter.executors.sky_client import (
    DOWN,
    LAUNCH,
    Cluster,
    ClusterState,
    Outcome,
    Request,
    SdkClient,
    SkyClient,
)

OWNER_LABEL = "arbiter-owner"
PORT_LABEL = "arbiter-port"

STOPS = frozenset({"aws", "azure", "gcp"})
"""Providers whose on-demand machines SkyPilot stops and starts again, in SkyPilot's own words."""


def why_not_stopped(provider: str) -> str | None:
    """Why on-demand machines of a provider cannot be stopped and started again; None: they can."""
    return None if provider in STOPS else "SkyPilot cannot stop a machine there and start it again"


class SkyPilotExecutor:
    """Implements `arbiter.executors.base.Executor`.

    Args:
        client: SkyPilot; its SDK unless said otherwise.
        zones: the AWS account's zones; asked of AWS unless said otherwise.
    """

    name = "skypilot"

    def __init__(self, client: SkyClient | None = None, zones: Zones | None = None) -> None:
        self._client = client or SdkClient()
        self._zones = zones or AwsZones()
        # Only spares questions: an endpoint does not change while its cluster lives.
        self._endpoints: dict[str, str] = {}

    def submit(self, spec: LaunchSpec) -> str:
        """Ask for the cluster, unless it was asked for before."""
        # What was asked for before stands, also where the same task would be refused by now.
        life = _Life(self._client.requests(spec.cluster))
        if life.launch is not None and life.launching:
            return life.launch.id
        standing = self._client.clusters([spec.cluster]).get(spec.cluster)
        # A launch on a cluster that is stopped starts it, where it stands or not at all.
        parked = standing is not None and _is_parked(standing)
        if life.launch is not None and not life.ended and not parked:
            return life.launch.id
        if standing is not None:
            if is_foreign(spec.cluster, standing.labels.get(OWNER_LABEL)):
                raise taken_name(spec.cluster)
            if not parked:
                return _nameless(spec.cluster)
        self._endpoints.pop(spec.cluster, None)
        task = pinned(spec, self._zones)
        secrets = _secrets(task, spec)
        return self._client.launch(task, secrets, spec.cluster)

    def observe(self, clusters: Sequence[str]) -> Mapping[str, Sighting]:
        """What became of these clusters; asks the clouds about those that are up."""
        lives = {cluster: _Life(self._client.requests(cluster)) for cluster in clusters}
        settled = [cluster for cluster, life in lives.items() if not life.launching]
        books = self._client.clusters(settled, refresh=True) if settled else {}
        past: frozenset[str] | None = None
        sightings: dict[str, Sighting] = {}
        for cluster, life in lives.items():
            standing = books.get(cluster)
            if life.launch is None and standing is None:
                past = self._client.past() if past is None else past
                if cluster in past and not life.ended:
                    sightings[cluster] = Sighting(cluster, Phase.GONE)
                continue
            seen = self._sighting(cluster, life, standing)
            if seen is not None:
                sightings[cluster] = seen
        return sightings

    def can_park(self, offer: Offer) -> str | None:
        """As SkyPilot has it of each cloud; of an on-demand machine."""
        if offer.purchase is not Purchase.ON_DEMAND:
            return "spot machines are not stopped"
        return why_not_stopped(offer.provider)

    def park(self, cluster: str) -> None:
        """Stop it, and wait until SkyPilot says that it is stopped."""
        standing = self._client.clusters([cluster]).get(cluster)
        if standing is None or is_foreign(cluster, standing.labels.get(OWNER_LABEL)):
            return
        if standing.state is not ClusterState.STOPPED:
            self._client.stop(cluster)
        self._endpoints.pop(cluster, None)

    def terminate(self, cluster: str) -> None:
        """Cancel its launch if that still runs, then end it, and wait until it is gone."""
        standing = self._client.clusters([cluster]).get(cluster)
        if standing is not None and is_foreign(cluster, standing.labels.get(OWNER_LABEL)):
            return
        life = _Life(self._client.requests(cluster))
        if life.launch is not None and life.launching:
            self._client.cancel([life.launch.id])
        self._client.down(cluster, wait=True)
        self._endpoints.pop(cluster, None)
        if cluster in self._client.clusters([cluster]):
            raise ArbiterError(
                f"cluster {cluster} still stands after it was ended", f"sky down {cluster}"
            )

    def inventory(self, owner: str) -> Sequence[str]:
        """The owner's clusters on the books and on their way."""
        books = self._client.clusters()
        prefix = f"arb-{owner}-"
        mine = {
            name
            for name, cluster in books.items()
            if cluster.labels.get(OWNER_LABEL, owner if name.startswith(prefix) else "") == owner
        }
        mine.update(name for name in self._client.launching() if name.startswith(prefix))
        return sorted(mine)

    def _sighting(self, cluster: str, life: _Life, standing: Cluster | None) -> Sighting | None:
        """One cluster that was launched, or stands on the books, or both."""
        launch = life.launch
        if launch is not None and launch.outcome is Outcome.LIVE:
            return Sighting(cluster, Phase.PENDING, launch.id, progress=launch.message)
        if standing is None:
            return self._off_the_books(cluster, life)
        if launch is None:
            error = None if standing.provisioned else "its launch was interrupted"
        else:
            succeeded = launch.outcome is Outcome.SUCCEEDED
            error = None if succeeded else "its launch failed"
        request_id = launch.id if launch else None
        if _is_parked(standing):
            refused = launch is not None and launch.outcome is Outcome.FAILED
            why = self._client.failure(launch.id) if launch is not None and refused else None
            return Sighting(cluster, Phase.PARKED, request_id, error=why)
        if error is not None:
            return self._clear_away(cluster, life, error)
        return self._up(standing, request_id)

    def _off_the_books(self, cluster: str, life: _Life) -> Sighting | None:
        launch = life.launch
        self._endpoints.pop(cluster, None)
        if launch is None:
            return None
        if launch.outcome is Outcome.FAILED:
            error = self._client.failure(launch.id)
            return Sighting(cluster, Phase.FAILED, launch.id, error=error)
        if life.ended:
            return None
        if launch.outcome is Outcome.CANCELLED:
            error = LaunchError("the launch was cancelled")
            return Sighting(cluster, Phase.FAILED, launch.id, error=error)
        return Sighting(cluster, Phase.GONE, launch.id)

    def _clear_away(self, cluster: str, life: _Life, why: str) -> Sighting:
        """Have what a failed launch left behind ended, without waiting for it."""
        if not life.ending:
            self._client.down(cluster, wait=False)
        request_id = life.launch.id if life.launch else None
        note = f"{why}; what it left is being ended"
        return Sighting(cluster, Phase.PENDING, request_id, progress=note)

    def _up(self, standing: Cluster, request_id: str | None) -> Sighting:
        region, zone = standing.region, standing.zone
        cloud = standing.cloud or ""
        if region is not None:
            region, zone = sky_places.our_place(cloud, region, zone)
        if cloud == "aws" and region is not None and zone is not None:
            zone = aws_zones.zone_id(self._zones, region, zone)
        return Sighting(
            cluster=standing.name,
            phase=Phase.UP,
            request_id=request_id,
            endpoint=self._endpoint(standing),
            region=region,
            zone=zone,
            progress=standing.reason if standing.state is ClusterState.INIT else "",
        )

    def _endpoint(self, standing: Cluster) -> str | None:
        """Base URL of the server, or None as long as SkyPilot does not tell."""
        if standing.name not in self._endpoints:
            found = self._client.endpoints(standing.name)
            port = int(standing.labels.get(PORT_LABEL, 0))
            address = found.get(port) or next(iter(found.values()), None)
            if address is None:
                return None
            url = address if "://" in address else f"http://{address}"
            self._endpoints[standing.name] = url.rstrip("/")
        return self._endpoints[standing.name]


class _Life:
    """The launches and downs of one cluster, and what they come to."""

    def __init__(self, requests: Sequence[Request]) -> None:
        launches = [one for one in requests if one.kind == LAUNCH]
        downs = [one for one in requests if one.kind == DOWN]
        self.launch = launches[-1] if launches else None
        after = [d for d in downs if not launches or d.created_at >= launches[-1].created_at]
        self.launching = self.launch is not None and self.launch.outcome is Outcome.LIVE
        self.ending = any(one.outcome is Outcome.LIVE for one in after)
        done = any(one.outcome is Outcome.SUCCEEDED for one in after)
        failed = self.launch is not None and self.launch.outcome is Outcome.FAILED
        # A failed launch stays on record as failed, also when what it left was cleared away.
        self.ended = done and not failed


def pinned(spec: LaunchSpec, zones: Zones) -> dict[str, Any]:
    """The task of a launch, held to the very machine, place and way to buy of its offer.

    Raises:
        LaunchRejected: the task is not one task on one kind of machine, or the place has no name.
    """
    import yaml

    try:
        task: Any = yaml.safe_load(spec.task)
    except yaml.YAMLError as error:
        raise LaunchRejected(f"the task of {spec.cluster} is not YAML") from error
    resources = task.get("resources") if isinstance(task, dict) else None
    if not isinstance(resources, dict):
        raise LaunchRejected(f"the task of {spec.cluster} has no resources")
    choices = [key for key in ("any_of", "ordered") if key in resources]
    if choices or task.get("num_nodes") not in (None, 1):
        what = choices[0] if choices else "num_nodes"
        raise LaunchRejected(
            f"the task of {spec.cluster} has {what}: arbiter chooses, and one machine only",
            f"take {what} out of the template",
        )
    offer = spec.offer
    zone = None
    if offer.provider == "aws" and offer.zone is not None:
        zone = aws_zones.zone_name(zones, offer.region, offer.zone)
    try:
        where = sky_places.infra(offer, zone)
    except ValueError as error:
        raise LaunchRejected(str(error)) from error
    kept = {k: v for k, v in resources.items() if k not in ("cloud", "region", "zone")}
    own = {OWNER_LABEL: spec.owner, PORT_LABEL: str(spec.port)}
    held = {
        **kept,
        "infra": where,
        "instance_type": offer.instance_type,
        "use_spot": offer.purchase is Purchase.SPOT,
        "labels": {**(kept.get("labels") or {}), **own},
    }
    return {**task, "resources": held}


def _is_parked(standing: Cluster) -> bool:
    """Whether it was whole once, and is stopped."""
    return standing.state is ClusterState.STOPPED and standing.provisioned


def _secrets(task: Mapping[str, Any], spec: LaunchSpec) -> dict[str, str]:
    """The values of the secrets that the task names, and of no others."""
    named = list(task.get("secrets") or ())
    absent = [name for name in named if not spec.secrets.get(name)]
    if absent:
        raise LaunchRejected(
            f"the task of {spec.cluster} needs the secret {absent[0]}", f"export {absent[0]}=..."
        )
    return {name: spec.secrets[name] for name in named}


def _nameless(cluster: str) -> str:
    """An id for the launch of a cluster that stands, whose request SkyPilot has forgotten."""
    return f"cluster:{cluster}"
