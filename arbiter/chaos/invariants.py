"""What must hold whatever happens. Pure: works on what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from arbiter.chaos.load import CUT, FAILED, Outcome
from arbiter.domain import MAKES, ReplicaState
from arbiter.sovereignty import Allowed, judge
from arbiter.store.journal import DecisionRow, Inputs

LEAKED = "leaked machines"
DOUBLE = "double launches"
OUTSIDE = "outside the rule for longer than a tick and the kill"
BELOW = "healthy below the minimum by own act"
LOST = "requests failed or cut without a cause"
UNSETTLED = "not back to health, or not down, in time"
REPLAY = "decisions that do not replay"

INVARIANTS = (LEAKED, DOUBLE, OUTSIDE, BELOW, LOST, UNSETTLED, REPLAY)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in seconds since 1970, in which something may be expected to fail.

    Attributes:
        cuts: answers that had begun may be cut within it.
        ran_s: of those, only the ones that had lasted so long.
        fails: requests may fail before their first byte within it.
    """

    begins: float
    ends: float
    cuts: bool = False
    fails: bool = False
    ran_s: float = 0.0


@dataclass(slots=True)
class Violations:
    """What did not hold, a sentence each, by invariant."""

    found: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in INVARIANTS})

    def add(self, invariant: str, sentence: str) -> None:
        """Note one."""
        self.found[invariant].append(sentence)

    @property
    def count(self) -> int:
        """How many."""
        return sum(len(sentences) for sentences in self.found.values())


def excused(outcome: Outcome, spans: Sequence[Span]) -> bool:
    """Whether something had happened that a client may notice."""
    ran_s = outcome.ended - outcome.began
    return any(
        span.begins <= outcome.ended
        and outcome.began <= span.ends
        and (
            (outcome.what == CUT and span.cuts and ran_s >= span.ran_s)
            or (outcome.what == FAILED and span.fails)
        )
        for span in spans
    )


def ended_too_soon(inputs: Inputs, row: DecisionRow) -> str | None:
    """The decision's own act that leaves fewer healthy replicas than ordered, or None."""
    fleet, rule = inputs.fleet, inputs.policy.sovereignty
    if fleet.service.down:
        return None
    healthy = {
        one.cluster
        for one in fleet.replicas
        if one.state is ReplicaState.HEALTHY
        and one.cluster not in fleet.ending
        and isinstance(judge(one.place, rule, one.offer.tier), Allowed)
    }
    ended = {one.cluster for one in row.plan.actions if one.kind not in MAKES}
    left = len(healthy - ended)
    if left >= min(len(healthy), fleet.service.replicas):
        return None
    return f"{row.sentence} (decision {row.id}: {left} of {len(healthy)} healthy are left)"
