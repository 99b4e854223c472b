"""Count: what a service's servers say of their load, read and kept, and what it teaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from arbiter.calibration import Busy, busied, kind
from arbiter.counters import Counters, Window, window
from arbiter.domain import Service
from arbiter.profiles import Profile
from arbiter.sizing import Fit, fit
from arbiter.store.beliefs import read_rates, save_rates
from arbiter.store.served import Machine, Reading, machines, readings, write_reading
from arbiter.tools import Tools

SHORTEST_S = 5.0
"""Between two readings; a shorter window tells more of chance than of the server."""

Counted = tuple[Reading, Window | None]


class Counting:
    """Reads the counters of servers that answer."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def count(self, service: Service, profile: Profile, endpoints: Mapping[str, str]) -> None:
        """Read the counters, and write them with what happened since the last reading.

        A server that does not tell leaves no mark: what it made until its next reading counts then.

        Args:
            endpoints: of the replicas that answer, cluster -> base URL.

        Raises:
            StoreError: the database failed.
        """
        tools = self._tools
        with tools.store.read() as connection:
            before = readings(connection, service.name)
            known = machines(connection, service.name)
        due = {
            cluster: url
            for cluster, url in endpoints.items()
            if cluster not in before or self._is_due(before[cluster])
        }
        found = tools.counters.read(due, tools.clock.now())
        counted = [
            _counted(service, profile, cluster, before.get(cluster), counters)
            for cluster, counters in found.items()
        ]
        if counted:
            self._write(counted, _lessons(profile, counted, known))

    def _is_due(self, last: Reading) -> bool:
        """Also where the last reading is dated ahead: the clock was set back."""
        age = (self._tools.clock.now() - last.counters.at).total_seconds()
        return not 0 <= age < SHORTEST_S

    def _write(self, counted: Sequence[Counted], lessons: Sequence[Busy]) -> None:
        with self._tools.store.begin() as connection:
            for reading, past in counted:
                write_reading(connection, reading, past)
            if lessons:
                rates = read_rates(connection)
                for lesson in lessons:
                    rates = busied(rates, lesson)
                save_rates(connection, rates, self._tools.clock.now())


def _counted(
    service: Service, profile: Profile, cluster: str, last: Reading | None, found: Counters
) -> Counted:
    """A reading, with what happened since the last one."""
    past = None if last is None else window(last.counters, found, profile.workload.concurrency)
    rate = None if past is None else past.tokens_per_s
    return Reading(cluster, service.name, found, rate), past


def _lessons(
    profile: Profile, counted: Sequence[Counted], known: Mapping[str, Machine]
) -> list[Busy]:
    """What busy servers have shown of their machines."""
    found = []
    for reading, past in counted:
        machine = known.get(reading.cluster)
        if past is None or not past.saturated or machine is None or machine.variant is None:
            continue
        estimated = _estimated(profile, machine)
        if estimated is not None:
            name = kind(profile.name, machine.variant, machine.gpu, machine.gpu_count)
            at = reading.counters.at.timestamp()
            found.append(Busy(at, name, past.seconds, past.tokens, estimated))
    return found


def _estimated(profile: Profile, machine: Machine) -> float | None:
    """Output tokens per second by the estimate alone; None where it knows of none."""
    served = tuple(one for one in profile.variants if one.quantization == machine.variant)
    if not served:
        return None  # the profile has changed since
    alone = replace(profile, variants=served, gpus=(machine.gpu,))
    found = fit(alone, machine.gpu, machine.gpu_count)
    return float(found.estimated) if isinstance(found, Fit) else None
