"""SkyPilot in memory: what it forgets, what it says wrongly, and when."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from arbiter.errors import ArbiterError, LaunchError
from arbiter.executors.sky_client import (
    DOWN,
    LAUNCH,
    Cluster,
    ClusterState,
    Outcome,
    Request,
)

ZONES = {"eu-north-1": {"eun1-az1": "eu-north-1c", "eun1-az2": "eu-north-1a"}}


class KnownZones:
    """The zones of one account, shuffled as AWS shuffles them."""

    def __init__(self, error: ArbiterError | None = None) -> None:
        self.error = error

    def of(self, region: str) -> Mapping[str, str]:
        """Zone id -> zone name."""
        if self.error is not None:
            raise self.error
        return ZONES.get(region, {})


@dataclass
class FakeSky:
    """Implements `SkyClient`. Launches are on their way until they are told how they end.

    Attributes:
        tasks: cluster -> the tasks that were launched under its name.
        secrets: cluster -> the secrets handed over with the last of them.
        machines: the clusters of which a machine runs, whatever the books say.
        unreachable: raised by every call while it is set.
        lose_answer: the next launch is taken, and the answer to it lost.
        deaf: downs are taken, and nothing comes of them.
        broken: a refresh finds that the machines' runtime does not answer.
    """

    tasks: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    secrets: dict[str, Mapping[str, str]] = field(default_factory=dict)
    machines: set[str] = field(default_factory=set)
    unreachable: ArbiterError | None = None
    lose_answer: bool = False
    deaf: bool = False
    broken: bool = False
    asked_for_endpoints: int = 0
    _books: dict[str, Cluster] = field(default_factory=dict)
    _past: set[str] = field(default_factory=set)
    _requests: list[Request] = field(default_factory=list)
    _errors: dict[str, LaunchError] = field(default_factory=dict)
    _clock: itertools.count[int] = field(default_factory=itertools.count)

    # --- the protocol ---------------------------------------------------------------------------

    def launch(self, task: Mapping[str, Any], secrets: Mapping[str, str], cluster: str) -> str:
        self._reach()
        self.tasks.setdefault(cluster, []).append(task)
        self.secrets[cluster] = secrets
        request = self._request(LAUNCH, cluster, Outcome.LIVE)
        if self.lose_answer:
            self.lose_answer = False
            raise ArbiterError("SkyPilot's API server does not answer (ReadTimeout)")
        return request.id

    def requests(self, cluster: str) -> Sequence[Request]:
        self._reach()
        return [one for one in self._requests if one.cluster == cluster]

    def launching(self) -> Sequence[str]:
        self._reach()
        live = (one for one in self._requests if one.outcome is Outcome.LIVE)
        return [one.cluster for one in live if one.kind == LAUNCH]

    def failure(self, request_id: str) -> LaunchError:
        self._reach()
        return self._errors[request_id]

    def clusters(
        self, names: Sequence[str] | None = None, *, refresh: bool = False
    ) -> Mapping[str, Cluster]:
        self._reach()
        if refresh:
            for name in set(self._books) & set(names or self._books):
                if self._is_launching(name):
                    continue
                if name not in self.machines:
                    del self._books[name]
                elif self._books[name].state is ClusterState.INIT and not self.broken:
                    self.set_state(name, ClusterState.UP)  # also where nothing was set up
        return {n: c for n, c in self._books.items() if names is None or n in names}

    def past(self) -> frozenset[str]:
        self._reach()
        return frozenset(self._past)

    def endpoints(self, cluster: str) -> Mapping[int, str]:
        self._reach()
        self.asked_for_endpoints += 1
        return {22: "10.0.0.1:22", 8000: "10.0.0.1:8000"}

    def cancel(self, request_ids: Sequence[str]) -> None:
        self._reach()
        for request_id in request_ids:
            self._end(request_id, Outcome.CANCELLED)

    def down(self, cluster: str, *, wait: bool) -> None:
        self._reach()
        self._request(DOWN, cluster, Outcome.LIVE)
        if wait:
            self.finish_downs()

    def stop(self, cluster: str) -> None:
        self._reach()
        if cluster in self._books:
            self.set_state(cluster, ClusterState.STOPPED)

    # --- what tests make happen -----------------------------------------------------------------

    def provision(self, cluster: str) -> None:
        """The machine of a launch exists, its runtime does not yet."""
        resources = self.tasks[cluster][-1]["resources"]
        cloud, region, zone = (*resources["infra"].split("/"), None)[:3]
        self.machines.add(cluster)
        self._past.add(cluster)
        self._books[cluster] = Cluster(
            cluster, ClusterState.INIT, cloud, region, zone, resources["labels"]
        )

    def come_up(self, cluster: str) -> None:
        """A launch succeeds."""
        self.provision(cluster)
        self._books[cluster] = replace(
            self._books[cluster], state=ClusterState.UP, provisioned=True
        )
        self._end(self._live(cluster).id, Outcome.SUCCEEDED)

    def fail(self, cluster: str, error: LaunchError) -> None:
        """A launch fails; what was provisioned stays."""
        request = self._live(cluster)
        self._errors[request.id] = error
        self._past.add(cluster)
        self._end(request.id, Outcome.FAILED)

    def set_state(self, cluster: str, state: ClusterState, reason: str = "") -> None:
        """What the books say."""
        self._books[cluster] = replace(self._books[cluster], state=state, reason=reason)

    def move(self, cluster: str, region: str, zone: str | None) -> None:
        """It stands elsewhere than asked."""
        self._books[cluster] = replace(self._books[cluster], region=region, zone=zone)

    def reclaim(self, cluster: str) -> None:
        """The cloud takes the machine; the books do not know until they are refreshed."""
        self.machines.discard(cluster)

    def finish_downs(self) -> None:
        """Every down that is on its way comes to its end."""
        for one in self._requests:
            if one.kind == DOWN and one.outcome is Outcome.LIVE:
                if not self.deaf:
                    self.machines.discard(one.cluster)
                    self._books.pop(one.cluster, None)
                self._end(one.id, Outcome.SUCCEEDED)

    def restart(self) -> None:
        """The API server is killed and starts again: it has forgotten every request."""
        self._requests.clear()
        self._errors.clear()

    def forget(self, cluster: str) -> None:
        """The requests of a cluster have grown too old to be kept."""
        self._requests = [one for one in self._requests if one.cluster != cluster]

    def downs(self, cluster: str) -> int:
        """How often the cluster was to be ended."""
        return sum(one.kind == DOWN and one.cluster == cluster for one in self._requests)

    # --- inside ---------------------------------------------------------------------------------

    def _request(self, kind: str, cluster: str, outcome: Outcome) -> Request:
        at = next(self._clock)
        request = Request(f"request-{at}", kind, cluster, outcome, float(at), "working")
        self._requests.append(request)
        return request

    def _live(self, cluster: str) -> Request:
        (one,) = [r for r in self._requests if r.cluster == cluster and r.outcome is Outcome.LIVE]
        return one

    def _is_launching(self, cluster: str) -> bool:
        return any(
            one.cluster == cluster and one.kind == LAUNCH and one.outcome is Outcome.LIVE
            for one in self._requests
        )

    def _end(self, request_id: str, outcome: Outcome) -> None:
        self._requests = [
            replace(one, outcome=outcome) if one.id == request_id else one for one in self._requests
        ]

    def _reach(self) -> None:
        if self.unreachable is not None:
            raise self.unreachable
