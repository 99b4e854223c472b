"""The steps of one plan as they are found, with their derived ids and names. Pure."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

from arbiter.crash_loop import BackOff
from arbiter.domain import Action, ActionKind, Candidate, Expected, Replica, ReplicaState, Service
from arbiter.parking import Parked


class Steps:
    """The actions so far, with their derived ids and names.

    Attributes:
        held: while it is in force, no launch is added.
        parked: the machines that may be started in place of a launch.
    """

    def __init__(self, now: datetime, owner: str, service: Service) -> None:
        self.now = now
        self.held: BackOff | None = None
        self.parked = Parked()
        self.actions: list[Action] = []
        self._owner, self._service = owner, service
        self._launched = 0
        self._touched: set[str] = set()

    def launch(
        self,
        candidate: Candidate,
        reason: str,
        replaces: str | None = None,
        *,
        for_money: bool = False,
        expected: Expected | None = None,
        hedges: str | None = None,
    ) -> None:
        """Add a launch under the service's next name, unless launches are held.

        Where a machine is parked that may take its place, that one is started instead.
        """
        if self.held is not None:
            return
        service = self._service
        found = self.parked.take(candidate)
        if found is not None:
            replica, candidate = found
            kind, cluster = ActionKind.START, replica.cluster
            self._touched.add(cluster)
        else:
            self._launched += 1
            number = service.generation + self._launched
            kind, cluster = ActionKind.LAUNCH, cluster_name(self._owner, service.name, number)
        self.actions.append(
            Action(
                id=self._id(),
                kind=kind,
                service=service.name,
                cluster=cluster,
                reason=reason,
                offer=candidate.quote.offer,
                price=candidate.quote.price,
                variant=candidate.variant,
                replaces=replaces,
                for_money=for_money,
                expected=expected,
                hedges=hedges,
            )
        )

    def drain(self, replica: Replica, reason: str) -> None:
        """Take a replica out of traffic; it is ended once it is idle."""
        self._end(ActionKind.DRAIN, replica, reason)

    def park(self, replica: Replica, reason: str) -> None:
        """Stop a replica that is out of traffic, and keep its disk."""
        self._end(ActionKind.PARK, replica, reason)

    def terminate(self, replica: Replica, reason: str) -> None:
        """End a replica."""
        self._end(ActionKind.TERMINATE, replica, reason)

    def end(self, replica: Replica, reason: str) -> None:
        """End a replica: what answers is drained first."""
        if replica.state is ReplicaState.HEALTHY:
            self.drain(replica, reason)
        else:
            self.terminate(replica, reason)

    def parks(self, replica: Replica) -> bool:
        """Whether this plan stops the replica, to keep its disk."""
        kinds = (one.kind for one in self.actions if one.cluster == replica.cluster)
        return ActionKind.PARK in kinds

    def touches(self, replica: Replica) -> bool:
        """Whether this plan already ends the replica."""
        return replica.cluster in self._touched

    def _end(self, kind: ActionKind, replica: Replica, reason: str) -> None:
        if replica.cluster in self._touched:
            return
        self._touched.add(replica.cluster)
        self.actions.append(Action(self._id(), kind, self._service.name, replica.cluster, reason))

    def _id(self) -> str:
        text = f"{self._owner}|{self._service.name}|{self.now.isoformat()}"
        return sha256(f"{text}|{len(self.actions)}".encode()).hexdigest()[:16]


def cluster_name(owner: str, service: str, number: int) -> str:
    """The cluster of a service's n-th launch: the same for every retry of that launch."""
    return f"arb-{owner}-{service}-{number}"
