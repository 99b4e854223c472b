"""An executor in memory that remembers what it was asked, for tests of the loop and for trials.

Nothing happens by itself: clusters stay pending until `advance`, and what goes wrong is arranged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from arbiter.domain import Offer
from arbiter.errors import ArbiterError, LaunchError, NoCapacity
from arbiter.executors.base import (
    LaunchSpec,
    Notice,
    Phase,
    Sighting,
    is_foreign,
    taken_name,
)
from arbiter.executors.places import arranged, names
from arbiter.money import Price


@dataclass(frozen=True, slots=True)
class Call:
    """One call that changes something.

    Attributes:
        method: "submit", "park" or "terminate".
        spec: of a submit; None otherwise.
    """

    method: str
    cluster: str
    spec: LaunchSpec | None = None


class FakeExecutor:
    """Implements `arbiter.executors.base.Executor` in memory.

    Args:
        immediate: clusters are up as soon as they are submitted.

    Attributes:
        calls: every submit, park and terminate, in order, also those that failed.
        capacity: place (a name of `arbiter.executors.places`) -> clusters that may stand there at
            a time; a place without an entry is never full. Lowering it takes nothing away.
        next_launch_error: raised by the next submit, which starts nothing.
        lose_next_answer: the next submit starts its cluster and then fails, as a connection does
            that breaks before the answer.
        unreachable: every method raises this while it is set.
        terminate_error: raised by the next terminate, which ends nothing.
        unparkable: provider -> why its machines cannot be parked.
        park_errors: raised by the next parks, one each, which stop nothing.
        undying: clusters that stand after they were ended, as clouds are known to have them.
        paid: cluster -> what it really costs an hour.
        notices: cluster -> the notice that it is taken away.
        taken: cluster -> another owner, who has something under that name.
    """

    name = "fake"

    def __init__(self, *, immediate: bool = False) -> None:
        self.calls: list[Call] = []
        self.capacity: dict[str, int] = {}
        self.next_launch_error: ArbiterError | None = None
        self.lose_next_answer = False
        self.unreachable: ArbiterError | None = None
        self.terminate_error: ArbiterError | None = None
        self.unparkable: dict[str, str] = {}
        self.park_errors: list[ArbiterError] = []
        self.undying: set[str] = set()
        self.paid: dict[str, Price] = {}
        self.notices: dict[str, Notice] = {}
        self.taken: dict[str, str] = {}
        self._immediate = immediate
        self._specs: dict[str, LaunchSpec] = {}
        self._sightings: dict[str, Sighting] = {}
        self._elsewhere: dict[str, tuple[str, str | None]] = {}
        self._launches = 0

    def submit(self, spec: LaunchSpec) -> str:
        """Note the launch; the same cluster again is answered with the first request id."""
        self.calls.append(Call("submit", spec.cluster, spec))
        self._reach()
        if self.next_launch_error is not None:
            error, self.next_launch_error = self.next_launch_error, None
            raise error
        if is_foreign(spec.cluster, self.taken.get(spec.cluster)):
            raise taken_name(spec.cluster)
        standing = self._sightings.get(spec.cluster)
        if standing is None or standing.phase is Phase.PARKED:
            self._launch(spec)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise ArbiterError("the connection broke before the answer came", "try again")
        return _request_id(self._sightings[spec.cluster])

    def observe(self, clusters: Sequence[str]) -> Mapping[str, Sighting]:
        """What became of these clusters."""
        self._reach()
        return {
            cluster: replace(
                self._sightings[cluster],
                price=self.paid.get(cluster),
                notice=self.notices.get(cluster),
            )
            for cluster in clusters
            if cluster in self._sightings
        }

    def can_park(self, offer: Offer) -> str | None:
        """What `unparkable` says."""
        return self.unparkable.get(offer.provider)

    def park(self, cluster: str) -> None:
        """Stop the cluster, if it is up."""
        self.calls.append(Call("park", cluster))
        self._reach()
        if self.park_errors:
            raise self.park_errors.pop(0)
        seen = self._sightings.get(cluster)
        if seen is not None and seen.phase is Phase.UP:
            self._sightings[cluster] = replace(seen, phase=Phase.PARKED, endpoint=None)

    def terminate(self, cluster: str) -> None:
        """Forget the cluster."""
        self.calls.append(Call("terminate", cluster))
        self._reach()
        if self.terminate_error is not None:
            error, self.terminate_error = self.terminate_error, None
            raise error
        if cluster not in self.undying:
            self._sightings.pop(cluster, None)

    def inventory(self, owner: str) -> Sequence[str]:
        """The owner's clusters that are pending, up or parked."""
        self._reach()
        standing = (*self.running, *self.parked)
        return [cluster for cluster in standing if self._specs[cluster].owner == owner]

    @property
    def parked(self) -> tuple[str, ...]:
        """Clusters that are stopped, of all owners."""
        return tuple(
            cluster
            for cluster, sighting in self._sightings.items()
            if sighting.phase is Phase.PARKED
        )

    @property
    def running(self) -> tuple[str, ...]:
        """Clusters that are pending or up, of all owners, oldest first."""
        return tuple(
            cluster
            for cluster, sighting in self._sightings.items()
            if sighting.phase in (Phase.PENDING, Phase.UP)
        )

    @property
    def submitted(self) -> tuple[LaunchSpec, ...]:
        """The launches that were asked for, one per call."""
        return tuple(call.spec for call in self.calls if call.spec is not None)

    @property
    def terminated(self) -> tuple[str, ...]:
        """The clusters whose end was asked for, one per call."""
        return tuple(call.cluster for call in self.calls if call.method == "terminate")

    def advance(self, *clusters: str) -> None:
        """Let pending launches come up: these, or all."""
        for cluster in clusters or self.running:
            if self._known(cluster).phase is Phase.PENDING:
                self._come_up(cluster)

    def fail(self, cluster: str, error: LaunchError) -> None:
        """Let a pending launch fail."""
        pending = self._known(cluster)
        if pending.phase is not Phase.PENDING:
            raise ValueError(f"{cluster} is not pending but {pending.phase}")
        self._sightings[cluster] = replace(pending, phase=Phase.FAILED, error=error, progress="")

    def lose(self, cluster: str) -> None:
        """Take a cluster away, as a cloud does with a spot machine."""
        seen = self._known(cluster)
        if seen.phase is Phase.FAILED:
            raise ValueError(f"{cluster} never ran")
        self._sightings[cluster] = replace(seen, phase=Phase.GONE, progress="")

    def place_elsewhere(self, place: str, region: str, zone: str | None = None) -> None:
        """Let a cluster, or what is launched in a place from now on, come up somewhere else.

        Args:
            place: a cluster's name, or a name of `arbiter.executors.places`.
        """
        self._elsewhere[place] = (region, zone)
        seen = self._sightings.get(place)
        if seen is not None and seen.phase is Phase.UP:
            self._sightings[place] = replace(seen, region=region, zone=zone)

    def _reach(self) -> None:
        if self.unreachable is not None:
            raise self.unreachable

    def _launch(self, spec: LaunchSpec) -> None:
        self._launches += 1
        request_id = f"fake-{self._launches}"
        self._specs[spec.cluster] = spec
        if self._full(spec):
            error = NoCapacity(f"{spec.offer.where}: no capacity (simulated)")
            parked = spec.cluster in self._sightings
            phase = Phase.PARKED if parked else Phase.FAILED
            failed = Sighting(spec.cluster, phase, request_id=request_id, error=error)
            self._sightings[spec.cluster] = failed
            return
        self._sightings[spec.cluster] = Sighting(
            spec.cluster, Phase.PENDING, request_id=request_id, progress="waiting for advance()"
        )
        if self._immediate:
            self._come_up(spec.cluster)

    def _full(self, spec: LaunchSpec) -> bool:
        """Whether any of the place's names has no room left."""
        held = [name for cluster in self.running for name in names(self._specs[cluster].offer.key)]
        own = names(spec.offer.key)
        return any(name in own and held.count(name) >= most for name, most in self.capacity.items())

    def _come_up(self, cluster: str) -> None:
        spec = self._specs[cluster]
        stands = self._elsewhere.get(cluster) or arranged(self._elsewhere, spec.offer.key)
        region, zone = stands or (spec.offer.region, spec.offer.zone)
        self._sightings[cluster] = replace(
            self._sightings[cluster],
            phase=Phase.UP,
            endpoint=f"http://{cluster}.invalid:{spec.port}",
            region=region,
            zone=zone,
            progress="",
        )

    def _known(self, cluster: str) -> Sighting:
        if cluster not in self._sightings:
            raise ValueError(f"{cluster} was never submitted, or was terminated")
        return self._sightings[cluster]


def _request_id(sighting: Sighting) -> str:
    assert sighting.request_id is not None  # every launch has one
    return sighting.request_id
