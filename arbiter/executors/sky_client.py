"""What arbiter asks of SkyPilot: a small protocol in our own words, and its one real answer.

SkyPilot's own API server does the work; here are only calls to it. A local server (the default,
on SKYPILOT_API_SERVER_LOCAL_PORT or 46580) that does not run is started by SkyPilot's SDK at the
first call, which takes some 15 s; a remote one (SKYPILOT_API_SERVER_ENDPOINT) is never started.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from enum import StrEnum
from io import StringIO
from typing import Any, Protocol, TypeVar

from arbiter.errors import ArbiterError, LaunchError
from arbiter.executors.sky_errors import launch_error, unreachable

T = TypeVar("T")

LAUNCH, DOWN = "sky.launch", "sky.down"
_FIELDS = ["request_id", "name", "cluster_name", "status", "created_at", "status_msg"]


class Outcome(StrEnum):
    """How far a request has come."""

    LIVE = "live"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ClusterState(StrEnum):
    """SkyPilot's own word on a cluster."""

    INIT = "INIT"  # being made, half made, or broken
    UP = "UP"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the API server remembers.

    It forgets all of them when it restarts, and each of them some time after its end.

    Attributes:
        kind: LAUNCH or DOWN.
        created_at: seconds since the epoch.
    """

    id: str
    kind: str
    cluster: str
    outcome: Outcome
    created_at: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster that SkyPilot has on its books.

    Attributes:
        region, zone: in SkyPilot's words; None until a machine is there.
        provisioned: a launch once made it whole. Neither its state nor `cluster_ever_up` tells:
            after a launch that broke off, a refresh calls a bare machine UP.
    """

    name: str
    state: ClusterState
    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    provisioned: bool = False


class SkyClient(Protocol):
    """SkyPilot. Every method raises ArbiterError where its API server cannot be reached."""

    def launch(self, task: Mapping[str, Any], secrets: Mapping[str, str], cluster: str) -> str:
        """Ask for a cluster; the request's id, at once.

        Raises:
            LaunchError: the task was refused on the spot.
        """
        ...

    def requests(self, cluster: str) -> Sequence[Request]:
        """The launches and downs of a cluster that are remembered, oldest first."""
        ...

    def launching(self) -> Sequence[str]:
        """The clusters with a live launch."""
        ...

    def failure(self, request_id: str) -> LaunchError:
        """Why a launch failed."""
        ...

    def clusters(
        self, names: Sequence[str] | None = None, *, refresh: bool = False
    ) -> Mapping[str, Cluster]:
        """The clusters on the books, of all users.

        Args:
            names: None means all.
            refresh: ask the clouds about those whose state may have changed by itself.
        """
        ...

    def past(self) -> frozenset[str]:
        """The names of all clusters that ever were, as far as SkyPilot remembers."""
        ...

    def endpoints(self, cluster: str) -> Mapping[int, str]:
        """Port -> host and port, or URL, at which it is reached from outside."""
        ...

    def cancel(self, request_ids: Sequence[str]) -> None:
        """Stop requests, and wait until they have stopped."""
        ...

    def down(self, cluster: str, *, wait: bool) -> None:
        """End a cluster; one that is not on the books is success.

        Args:
            wait: return when it is gone, not when the request is on its way.
        """
        ...

    def stop(self, cluster: str) -> None:
        """Stop a cluster and keep its disk; return when it is stopped, or is not on the books."""
        ...


class SdkClient:
    """SkyPilot's Python SDK.

    Args:
        sdk: the module `sky`; imported at the first call unless given, which takes 2 s.
    """

    def __init__(self, sdk: Any = None) -> None:
        self._loaded = sdk
        self._loading = threading.Lock()

    def launch(self, task: Mapping[str, Any], secrets: Mapping[str, str], cluster: str) -> str:
        """Ask for a cluster."""
        sky = self._sky()
        try:
            made = sky.Task.from_yaml_config(dict(task), secrets_overrides=list(secrets.items()))
            with _quiet():
                return str(sky.launch(made, cluster_name=cluster))
        except Exception as error:
            raise unreachable(error) or launch_error(error) from error

    def requests(self, cluster: str) -> Sequence[Request]:
        """Newest last."""
        return sorted(self._remembered(cluster, finished=True), key=lambda one: one.created_at)

    def launching(self) -> Sequence[str]:
        """The clusters with a live launch."""
        live = self._remembered(None, finished=False)
        return [one.cluster for one in live if one.kind == LAUNCH and one.outcome is Outcome.LIVE]

    def failure(self, request_id: str) -> LaunchError:
        """What getting the request raises."""
        sky = self._sky()
        try:
            sky.get(request_id)
        except Exception as error:
            cause = None if _told(error) else unreachable(error)
            if cause is not None:
                raise cause from error
            return launch_error(error)
        return LaunchError("SkyPilot lists the launch as failed, and tells no reason")

    def clusters(
        self, names: Sequence[str] | None = None, *, refresh: bool = False
    ) -> Mapping[str, Cluster]:
        """The clusters on the books."""
        if names is not None and not names:
            return {}
        sky = self._sky()
        from sky.utils.common import StatusRefreshMode

        mode = StatusRefreshMode.AUTO if refresh else StatusRefreshMode.NONE
        asked = None if names is None else list(names)
        records = self._done(lambda: sky.get(sky.status(asked, refresh=mode, all_users=True)))
        return {record["name"]: _cluster(record) for record in records}

    def past(self) -> frozenset[str]:
        """The names in SkyPilot's report of costs."""
        sky = self._sky()
        return frozenset(row["name"] for row in self._done(lambda: sky.get(sky.cost_report())))

    def endpoints(self, cluster: str) -> Mapping[int, str]:
        """None where SkyPilot has none."""
        sky = self._sky()
        try:
            found = sky.get(sky.endpoints(cluster))
        except Exception as error:
            cause = unreachable(error)
            if cause is not None:
                raise cause from error
            return {}
        return {int(port): str(endpoint) for port, endpoint in found.items()}

    def cancel(self, request_ids: Sequence[str]) -> None:
        """Stop requests."""
        sky = self._sky()
        ids = list(request_ids)
        self._done(lambda: sky.get(sky.api_cancel(ids, all_users=True, silent=True)))

    def down(self, cluster: str, *, wait: bool) -> None:
        """End a cluster."""
        sky = self._sky()
        try:
            request = sky.down(cluster)
            if wait:
                sky.get(request)
        except sky.exceptions.ClusterDoesNotExist:
            return
        except Exception as error:
            raise _failed(f"cluster {cluster} could not be ended", error) from error

    def stop(self, cluster: str) -> None:
        """Stop a cluster."""
        sky = self._sky()
        try:
            sky.get(sky.stop(cluster))
        except sky.exceptions.ClusterDoesNotExist:
            return
        except Exception as error:
            raise _failed(f"cluster {cluster} could not be stopped", error) from error

    def _remembered(self, cluster: str | None, *, finished: bool) -> Iterator[Request]:
        sky = self._sky()
        from sky.server import common as server

        # The listing alone would call a server that does not run an empty list.
        self._done(server.check_server_healthy_or_start_fn)
        listed = self._done(
            lambda: sky.api_status(all_status=finished, fields=_FIELDS, cluster_name=cluster)
        )
        for one in listed:
            if one.name in (LAUNCH, DOWN) and one.cluster_name:
                yield Request(
                    id=one.request_id,
                    kind=one.name,
                    cluster=one.cluster_name,
                    outcome=_OUTCOMES.get(one.status.upper(), Outcome.LIVE),
                    created_at=one.created_at,
                    message=one.status_msg or "",
                )

    def _done(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:
            raise _failed("SkyPilot could not be asked", error) from error

    def _sky(self) -> Any:
        with self._loading:
            if self._loaded is None:
                self._loaded = _imported()
        return self._loaded


_OUTCOMES = {
    "SUCCEEDED": Outcome.SUCCEEDED,
    "FAILED": Outcome.FAILED,
    "CANCELLED": Outcome.CANCELLED,
}


_STATES = {state.value: state for state in ClusterState}
"""SkyPilot has a few more, for clusters that stop by themselves; arbiter makes none of those."""


def _imported() -> Any:
    # What an arbiter launches where is nobody else's business.
    os.environ.setdefault("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    try:
        import sky
    except ImportError as error:
        raise ArbiterError(
            f"SkyPilot is not installed ({error})", "pip install 'arbiter[skypilot]'"
        ) from error
    import logging

    logging.getLogger("sky").setLevel(logging.WARNING)
    return sky


def _cluster(record: Mapping[str, Any]) -> Cluster:
    launched = getattr(record["handle"], "launched_resources", None)
    return Cluster(
        name=record["name"],
        state=_STATES.get(record["status"].value, ClusterState.INIT),
        cloud=record["cloud"].lower() if record["cloud"] else None,
        region=getattr(launched, "region", None),
        zone=getattr(launched, "zone", None),
        labels=getattr(launched, "labels", None) or {},
        reason=record["init_status_reason"] or "",
        provisioned=record["config_hash"] is not None,  # written when the runtime is set up
    )


def _told(error: BaseException) -> bool:
    """The API server answered, with the error of a request: it may have lost a connection itself.

    SkyPilot hands such errors over as Python's own classes, or with the server's stack trace; what
    fails on the way there is of the HTTP library, or made by the SDK.
    """
    return type(error).__module__ == "builtins" or hasattr(error, "stacktrace")


def _failed(what: str, error: Exception) -> ArbiterError:
    return unreachable(error) or ArbiterError(f"{what}: {launch_error(error).message}")


@contextmanager
def _quiet() -> Iterator[None]:
    """SkyPilot tells people what it does on stdout, which belongs to arbiter's own answers."""
    with redirect_stdout(StringIO()):
        yield
