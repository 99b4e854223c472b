"""Replicas as processes on loopback: the executor of the demo, and of tests with real servers.

Each cluster is a folder of the state folder:

    <state>/<cluster>/lock         locked by the server process for as long as it lives
                      spec.json    what was asked for, without secret values
                      pid          the server's, recorded by itself
                      port         its port on loopback, written once it has one
                      failed.json  why nothing was launched
                      hangs        nothing was launched, and never will be
                      ending       a termination was begun
                      log          the server's output

The lock is taken before the process exists and handed down to it (`arbiter.executors.folder`), so
there is no instant at which two callers could both start one, nor one at which a running server is
not seen: not after a `kill -9` of the caller, not after a reboot, not when a process id is used
again. The servers outlive arbiter; the next arbiter finds them as the last one left them.

What happens to launches is arranged by files of the state folder, whose keys are the names of
`arbiter.executors.places`: `capacity.json` (place -> "none", "quota", "rejected" or "hangs"),
`misplace.json` (place or cluster -> {"region", "zone"}, where it then really runs) and
`charged.json` (place or cluster -> what it then really costs an hour). A notice that a cluster is
taken away is a file `notice.json` in its folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from arbiter.domain import Offer, OfferKey, Purchase
from arbiter.errors import ArbiterError, LaunchError, LaunchRejected
from arbiter.executors.arrangements import (
    CAPACITY,
    CHARGED,
    HANGS,
    MISPLACED,
    Arrangements,
    explained,
    refused,
)
from arbiter.executors.base import LaunchSpec, Phase, Sighting, is_foreign, taken_name
from arbiter.executors.folder import Folder, reap
from arbiter.executors.places import arranged
from arbiter.executors.spec_file import written
from arbiter.notices import parse_notice

Command = Callable[[LaunchSpec, Path], list[str]]
"""The command line of a replica, given its folder. It must write its port to `port` in there."""

_CLUSTER = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,99}")
_REMOVED = ".removed-"
PARKED = "parked"  # a file in the folder of a cluster that is stopped
# What a server gets of arbiter's own environment; never the cloud credentials in it.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
_STEP_S = 0.01
_START_S = 5.0  # within which a caller that holds the lock must have started its server
_KILL_S = 5.0  # within which the system must have taken a killed process away


def demo_server(
    *, cold_start_s: float = 0.0, shutdown_timeout_s: float = 10.0, tokens_per_second: float = 50.0
) -> Command:
    """The command that starts `arbiter.demo.server`, from a checkout or an installed wheel."""

    def command(spec: LaunchSpec, folder: Path) -> list[str]:
        options = {
            "--model": spec.model,
            "--port-file": folder / "port",
            "--cold-start": cold_start_s,
            "--shutdown-timeout": shutdown_timeout_s,
            "--tokens-per-second": tokens_per_second,
        }
        arguments = [f"{name}={value}" for name, value in options.items()]
        return [sys.executable, "-P", "-m", "arbiter.demo.server", *arguments]

    return command


class LocalExecutor:
    """Implements `arbiter.executors.base.Executor` with processes of this machine (Linux).

    Args:
        state_dir: where the clusters' folders are; made when missing.
        command: how a replica is started; the demo server unless said otherwise.
        cold_start_s: of the demo server; without effect on another command.
        drain_s: seconds that a server may take to end by itself before it is killed.
        checkpoint: called with the name of each step, so that tests can stop the program there.
    """

    name = "local"

    def __init__(
        self,
        state_dir: Path,
        *,
        command: Command | None = None,
        cold_start_s: float = 0.0,
        drain_s: float = 15.0,
        checkpoint: Callable[[str], None] | None = None,
    ) -> None:
        self._state = state_dir.absolute()
        self._command = command or demo_server(
            cold_start_s=cold_start_s, shutdown_timeout_s=max(0.0, drain_s - 5.0)
        )
        self._arranged = Arrangements(self._state)
        self._drain_s = drain_s
        self._checkpoint = checkpoint or (lambda _step: None)

    def submit(self, spec: LaunchSpec) -> str:
        """Start the cluster's server, unless it was started or refused before."""
        if not _CLUSTER.fullmatch(spec.cluster):
            raise LaunchRejected(
                f"not a cluster name: {spec.cluster!r}",
                "use at most 100 letters, digits, dots, dashes and underscores",
            )
        folder = Folder(self._state / spec.cluster)
        if is_foreign(spec.cluster, (folder.read_json("spec.json") or {}).get("owner")):
            raise taken_name(spec.cluster)
        until = time.monotonic() + _START_S
        with explained(f"cluster {spec.cluster} could not be started"):
            while True:
                folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._checkpoint("folder")
                with folder.locked() as lock:
                    if lock is not None:
                        self._launch_once(spec, folder, lock)
                        return _request_id(spec.cluster)
                if folder.server() is not None:
                    return _request_id(spec.cluster)
                if time.monotonic() > until:
                    raise ArbiterError(
                        f"cluster {spec.cluster} is held by a process that does not start it",
                        f"look for who has {folder.path}/lock open, and try again",
                    )
                time.sleep(_STEP_S)

    def observe(self, clusters: Sequence[str]) -> Mapping[str, Sighting]:
        """What is seen of these clusters, from their folders and locks."""
        reap()
        misplaced = self._arranged.read(MISPLACED)
        with explained("the clusters could not be observed"):
            seen = (self._sight(folder, misplaced) for folder in self._folders(clusters))
            return {sighting.cluster: sighting for sighting in seen if sighting}

    def can_park(self, offer: Offer) -> str | None:
        """A process can be ended and started again; of spot a cloud would not have it."""
        return None if offer.purchase is not Purchase.SPOT else "spot machines cannot be stopped"

    def park(self, cluster: str) -> None:
        """End the server and keep its folder, which stands for the disk."""
        with explained(f"cluster {cluster} could not be stopped"):
            for folder in self._folders([cluster]):
                if not is_foreign(cluster, (folder.read_json("spec.json") or {}).get("owner")):
                    self._end(folder, self._put_aside)
        reap()

    def terminate(self, cluster: str) -> None:
        """End the server, kill it if it takes longer than `drain_s`, and remove the folder."""
        with explained(f"cluster {cluster} could not be ended"):
            for folder in self._folders([cluster]):
                if is_foreign(cluster, (folder.read_json("spec.json") or {}).get("owner")):
                    return
                with suppress(FileNotFoundError):  # somebody else has just removed it
                    (folder.path / "ending").touch()
                self._checkpoint("tombstone")
                self._end(folder, self._remove)
            self._sweep()
        reap()

    def inventory(self, owner: str) -> Sequence[str]:
        """The owner's clusters that were not terminated, also those whose server has died."""
        reap()
        with explained("the clusters could not be listed"):
            return [
                folder.path.name
                for folder in self._folders()
                if (folder.read_json("spec.json") or {}).get("owner") == owner
            ]

    def standing(self) -> Mapping[str, OfferKey]:
        """Every cluster whose server runs, with the offer that it was launched on."""
        with explained("the clusters could not be listed"):
            return {
                folder.path.name: OfferKey.parse(spec["offer"])
                for folder in self._folders()
                if folder.server() is not None and (spec := folder.read_json("spec.json"))
            }

    def reclaim(self, cluster: str) -> bool:
        """Take a running cluster away without notice, as a cloud does with a spot machine.

        Returns:
            Whether a server was running.

        Raises:
            ArbiterError: the server does not die.
        """
        with explained(f"cluster {cluster} could not be reclaimed"):
            running = [folder for folder in self._folders([cluster]) if folder.server()]
            for folder in running:
                _take_away(folder)
        reap()
        return bool(running)

    def set_capacity(self, capacity: Mapping[str, str]) -> None:
        """Arrange which launches fail from now on; replaces what was arranged before."""
        self._arranged.write(CAPACITY, capacity)

    def give_notice(self, cluster: str, seconds: float) -> bool:
        """Announce that a cluster is taken away so many seconds from now; it is not done by that.

        Returns:
            Whether there is such a cluster.
        """
        now = datetime.now(UTC)
        told = {
            "kind": "terminate",
            "given_at": now.isoformat(),
            "takes_at": (now + timedelta(seconds=seconds)).isoformat(),
        }
        with explained(f"no notice could be given to {cluster}"):
            for folder in self._folders([cluster]):
                folder.write_json("notice.json", {"notice": told})
                return True
        return False

    def set_charged(self, prices: Mapping[str, str]) -> None:
        """Arrange what clusters really cost (USD an hour); replaces what was arranged before."""
        self._arranged.write(CHARGED, prices)

    def set_misplaced(self, places: Mapping[str, Mapping[str, str | None]]) -> None:
        """Arrange where clusters really run; replaces what was arranged before."""
        self._arranged.write(MISPLACED, places)

    def _launch_once(self, spec: LaunchSpec, folder: Folder, lock: int) -> None:
        """Start the server, with the lock held, if that was not done before."""
        self._checkpoint("locked")
        if (folder.path / PARKED).exists():
            _forget_the_run(folder)  # where a stop was killed
        if (folder.path / "ending").exists():
            raise ArbiterError(
                f"cluster {spec.cluster} is being ended", "launch under a new name instead"
            )
        if folder.recorded_pid() is not None or folder.read_json("failed.json") is not None:
            return
        if (folder.path / HANGS).exists():
            return
        folder.write_json("spec.json", written(spec))
        self._checkpoint("spec")
        refusal = self._arranged.refusal(spec.offer.key)
        if refusal == HANGS:
            (folder.path / HANGS).touch()
            return
        parked = (folder.path / PARKED).exists()
        if refusal is not None and parked:
            raise refused({"kind": refusal, "where": spec.offer.where})
        if refusal is not None:
            folder.write_json("failed.json", {"kind": refusal, "where": spec.offer.where})
            return
        command = self._command(spec, folder.path)
        if shutil.which(command[0]) is None:
            self._remove(folder)
            raise LaunchRejected(
                f"the program of cluster {spec.cluster} is missing: {command[0]}",
                "install it, or correct the executor's command",
            )
        (folder.path / PARKED).unlink(missing_ok=True)
        inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        folder.spawn(command, inherited | dict(spec.secrets), lock)
        self._checkpoint("spawned")

    def _sight(self, folder: Folder, misplaced: Mapping[str, Any]) -> Sighting | None:
        cluster = folder.path.name
        spec = folder.read_json("spec.json")
        if spec is None:
            return None
        failed = folder.read_json("failed.json")
        if failed is not None:
            return _sighting(cluster, Phase.FAILED, error=refused(failed))
        if (folder.path / HANGS).exists():
            return _sighting(cluster, Phase.PENDING, progress="it hangs (simulated)")
        # In this order: a recorded process without the lock has died, and its port file is final.
        started = folder.recorded_pid() is not None
        alive = folder.alive()
        port = folder.port()
        ending = (folder.path / "ending").exists()
        if not alive and not ending and (folder.path / PARKED).exists():
            return _sighting(cluster, Phase.PARKED, **_really(cluster, spec, misplaced))
        if not alive and (ending or not started):
            return None
        if port is None and not alive:
            return _sighting(cluster, Phase.FAILED, error=_died(cluster, folder))
        if port is None:
            return _sighting(cluster, Phase.PENDING, progress="the server is being started")
        return _sighting(
            cluster,
            Phase.UP if alive else Phase.GONE,
            progress="being ended" if ending else "",
            endpoint=f"http://127.0.0.1:{port}",
            price=self._arranged.charged(cluster, OfferKey.parse(spec["offer"])),
            notice=parse_notice((folder.read("notice.json") or "").encode()),
            **_really(cluster, spec, misplaced),
        )

    def _end(self, folder: Folder, settle: Callable[[Folder], None]) -> None:
        """End the server, and do what is to be done with its folder while nobody holds it."""
        began = time.monotonic()
        asked = False
        while folder.path.exists():
            with folder.locked() as lock:
                if lock is not None:
                    self._checkpoint("stopped")
                    settle(folder)
                    return
            waited = time.monotonic() - began
            if not asked:
                asked = folder.ask_to_end()
                self._checkpoint("asked")
            if waited > self._drain_s:
                folder.kill()
            if waited > self._drain_s + _KILL_S:
                raise ArbiterError(
                    f"cluster {folder.path.name} does not end: its lock is still held",
                    f"look for who has {folder.path}/lock open, and try again",
                )
            time.sleep(_STEP_S)

    def _put_aside(self, folder: Folder) -> None:
        """In this order: what has no server any more is seen as parked, and never as lost."""
        if folder.recorded_pid() is None:
            return  # it is parked already, or its start has begun no server
        (folder.path / PARKED).touch()
        self._checkpoint("parked")
        _forget_the_run(folder)

    def _remove(self, folder: Folder) -> None:
        """Take the folder away in one step; what is left of it is swept up later."""
        folder.path.rename(self._state / f"{_REMOVED}{folder.path.name}-{secrets.token_hex(4)}")
        self._checkpoint("removed")

    def _sweep(self) -> None:
        for left in self._state.glob(f"{_REMOVED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _folders(self, clusters: Iterable[str] | None = None) -> Iterator[Folder]:
        """The folders that exist, of these clusters or of all."""
        if clusters is None:
            clusters = sorted(os.listdir(self._state)) if self._state.is_dir() else ()
        for cluster in clusters:
            if _CLUSTER.fullmatch(cluster) and (self._state / cluster).is_dir():
                yield Folder(self._state / cluster)


def _request_id(cluster: str) -> str:
    return f"local:{cluster}"


def _forget_the_run(folder: Folder) -> None:
    for name in ("notice.json", "port", "pid"):
        (folder.path / name).unlink(missing_ok=True)


def _take_away(folder: Folder) -> None:
    until = time.monotonic() + _KILL_S
    while folder.alive():
        folder.kill()
        if time.monotonic() > until:
            raise ArbiterError(f"the server of {folder.path.name} does not die", "try again")
        time.sleep(_STEP_S)


def _sighting(cluster: str, phase: Phase, **seen: Any) -> Sighting:
    return Sighting(cluster, phase, request_id=_request_id(cluster), **seen)


def _really(cluster: str, spec: Mapping[str, Any], misplaced: Mapping[str, Any]) -> dict[str, Any]:
    """Where the cluster runs: as asked, unless it was arranged otherwise."""
    key = OfferKey.parse(spec["offer"])
    elsewhere = misplaced.get(cluster) or arranged(misplaced, key)
    if elsewhere is None:
        return {"region": key.region, "zone": key.zone}
    return {"region": elsewhere.get("region"), "zone": elsewhere.get("zone")}


def _died(cluster: str, folder: Folder) -> LaunchError:
    return LaunchError(
        f"the server of cluster {cluster} ended during its start", f"see {folder.log}"
    )
