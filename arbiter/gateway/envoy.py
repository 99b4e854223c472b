"""The gateway as an Envoy that this module drives with files and an administration socket.

A file is replaced as a whole, and only after that does Envoy read it; what it refuses it leaves
aside, and goes on with what it had.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from arbiter.errors import GatewayError
from arbiter.gateway import binary, files
from arbiter.gateway.addresses import address_of, target
from arbiter.gateway.admin import Host
from arbiter.gateway.base import Backend, BackendState, Counts, GatewayHealth
from arbiter.gateway.boot import CLUSTERS_FILE, ROUTES, ROUTES_FILE, bootstrap
from arbiter.gateway.clusters import HELPING, cluster_names, endpoints_file, standby, waiting
from arbiter.gateway.process import Run, Runs, Wanted
from arbiter.gateway.room import Room
from arbiter.gateway.state import State
from arbiter.gateway.tally import FIGURES, Tally, numbers

TAKEN_S = 10.0
"""Within which a running Envoy must have taken a file. It takes some 10 ms, but for a new cluster
whose hosts do not answer the first health check, or whose name is looked up slowly."""

HEALTHY_S = 3.0
"""For so long a replica that is to be drained waits for another to be found healthy."""

APART_S = 0.5
"""Between the two looks that find a backend idle."""

AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
)

_STEP_S = 0.005
_REJECTED = r"\.update_(rejected|failure)$"

Services = dict[str, tuple[Backend, ...]]


@dataclass(frozen=True, slots=True)
class _Look:
    """A backend that was seen to answer nothing.

    Attributes:
        at: on the monotonic clock.
        total: requests that it had been given until then.
    """

    at: float
    total: int


class EnvoyGateway:
    """Implements `arbiter.gateway.base.Gateway`. Of one state folder, one acts at a time.

    Args:
        state: folder of everything; made for this user alone.
        keys: the clients' keys, asked for at every start().
        host: an IP address.
        tls: certificate chain and key; renewed files are taken up by a replacement.
        url: base under which clients reach it, when that is not http://host:port.
        workers: threads that forward.
        drain_s: seconds after which a replaced process is ended though it still answers.
        program: finds Envoy; the default is `arbiter.gateway.binary`.
    """

    def __init__(
        self,
        state: Path,
        keys: Callable[[], Sequence[str]],
        *,
        host: str = "127.0.0.1",
        port: int = 8401,
        url: str | None = None,
        tls: tuple[Path, Path] | None = None,
        workers: int = 2,
        drain_s: float = 600.0,
        program: Callable[[], Path] = binary.find,
    ) -> None:
        self._state = State(state)
        self._keys = keys
        self._host, self._port = host, port
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if tls is None else "https"
        self._url = (url or f"{scheme}://{shown}:{port}").rstrip("/")
        self._tls = tls
        self._workers = workers
        self._program = program
        self._looks: dict[tuple[str, str], _Look] = {}
        self._addresses = self._state.addresses()
        self._tally = Tally(self._state)
        self._runs = Runs(self._state.path, drain_s, self._tally.keep)
        self._room = Room(self._state.path)
        self._error: str | None = None

    # --- the process ----------------------------------------------------------------------------

    def start(self) -> None:
        """Start, adopt, restart or replace Envoy, and take up changed client keys."""
        with self._told():
            wanted = self._wanted()
            with self._state.locked():
                current = self._runs.newest()
                if current is None or current.wanted != wanted.digest:
                    if self._program is binary.find:
                        binary.check(wanted.program)
                    self._write(self._state.services())
                    self._runs.ensure(wanted)
                else:
                    self._runs.ensure(wanted)
                    self._apply(self._state.services())
                self._runs.retire()
                self._room.ensure(needed=_any_holds(self._state.services()))

    def _wanted(self) -> Wanted:
        tls = self._tls and (str(self._tls[0].absolute()), str(self._tls[1].absolute()))
        boot = bootstrap(str(self._state.conf), self._host, self._port, tls)
        return Wanted(self._program(), boot, self._host, self._port, self._workers, self._tls or ())

    def health(self) -> GatewayHealth:
        """How the process is."""
        try:
            current = self._runs.newest()
            retiring = sum(1 for run in self._runs.alive() if run.draining_since is not None)
        except OSError as error:
            return GatewayHealth(False, error=f"the gateway's files cannot be read: {error}")
        if current is None:
            return GatewayHealth(
                False, error=self._error or "the gateway does not run", retiring=retiring
            )
        try:
            version = current.admin.version()
            rejected = _refusals(current)
        except GatewayError as error:
            ended = not current.alive  # since it was looked for
            said = "the gateway does not run" if ended else str(error)
            return GatewayHealth(False, error=said, retiring=retiring)
        return GatewayHealth(True, version, rejected, self._error, retiring)

    def stop(self) -> None:
        """End every process, whatever it answers. For the end of a demo or a test; see start()."""
        with self._state.locked():
            for run in self._runs.alive():
                run.end()
            self._room.stop()

    # --- services -------------------------------------------------------------------------------

    def endpoint(self, service: str) -> str:
        """The base URL for an OpenAI client."""
        return f"{self._url}/{service}/v1"

    def serve(self, service: str, backends: Sequence[Backend]) -> None:
        """Make these the service's backends; a drain waits until another is found healthy."""
        with self._told(), self._state.locked():
            services = self._state.services()
            wanted = tuple(sorted(backends, key=lambda one: one.cluster))
            held = _held(services.get(service, ()), wanted)
            if _any_holds({service: wanted}):
                self._room.ensure(needed=True)
            if held != wanted and self._runs.newest() is not None:
                self._apply({**services, service: held})
                self._await_another(service, held, wanted)
            self._apply({**services, service: wanted})

    def forget(self, service: str) -> None:
        """Drop the service."""
        with self._told(), self._state.locked():
            services = self._state.services()
            if services.pop(service, None) is not None:
                self._apply(services)
                self._state.remove(endpoints_file(service))

    def active(self, service: str, cluster: str) -> int:
        """Requests that the backend is answering."""
        return sum(host.active for host in self._hosts(service, cluster))

    def idle(self, service: str, cluster: str) -> bool:
        """Whether it answers nothing, and has got nothing since the last look that found it so."""
        hosts = self._hosts(service, cluster)
        place = (service, cluster)
        if not hosts:
            self._looks.pop(place, None)
            return True
        total = sum(host.total for host in hosts)
        if any(host.active for host in hosts):
            self._looks.pop(place, None)
            return False
        last, now = self._looks.get(place), time.monotonic()
        if last is None or last.total != total:
            self._looks[place] = _Look(now, total)
            return False
        return now - last.at >= APART_S

    def counts(self) -> Mapping[str, Counts]:
        """What passed, per service, also through processes that were replaced."""
        runs = self._runs.alive()
        total = self._tally.total(runs)
        active = Counter[str]()
        for run in runs:
            for name, hosts in run.admin.hosts().items():
                active[name] += sum(one.active for one in hosts.values())
        return {
            service: Counts(
                **{name: total[service, name] for name in FIGURES},
                active=active[service] + active[standby(service)] + active[waiting(service)],
                held=active[waiting(service)],
            )
            for service in self._state.services()
        }

    # --- what Envoy is told ---------------------------------------------------------------------

    def _apply(self, services: Services) -> None:
        """Write what changed, file by file, and wait until Envoy has taken each.

        A route never leads to a cluster that is not there: clusters are added before routes, and
        removed after them.

        Raises:
            GatewayError: it runs not, or it refused a file; then the later ones are not written.
        """
        current = self._runs.newest()
        if current is None:
            self._write(services)
            raise GatewayError("the gateway does not run", "it is started at the next tick")
        rendered = self._render(services)
        order = [CLUSTERS_FILE, ROUTES_FILE]
        if not self._state.written_clusters() <= cluster_names(services):
            order.reverse()
        endpoints = [name for name in rendered if name not in order]
        self._state.keep_services(services)
        refusals = _refusals(current)
        for name in (*endpoints, *order):
            self._state.write(name, rendered[name])
            if name in order:
                self._await_taken(current, {name: rendered[name]}, refusals)
        self._await_taken(current, rendered, refusals)

    def _await_taken(self, run: Run, written: Mapping[str, str], refusals: int) -> None:
        expected = {_version_stat(name): files.version_of(text) for name, text in written.items()}
        end = time.monotonic() + TAKEN_S
        while missing := _not_taken(run, expected):
            refused = _refusals(run) > refusals
            if refused or time.monotonic() > end:
                names = sorted(name for name in written if _version_stat(name) in missing)
                what = ", ".join(names) or "its clusters"
                raise GatewayError(
                    f"the gateway {'refused' if refused else 'did not take'} {what} "
                    "and goes on as before",
                    f"look at {self._state.conf}",
                )
            time.sleep(_STEP_S)

    def _render(self, services: Services) -> dict[str, str]:
        return files.render(
            str(self._state.conf), services, self._keys(), self._resolved(services), _authorities()
        )

    def _write(self, services: Services) -> None:
        """Write every file, while no Envoy reads them."""
        rendered = self._render(services)
        self._state.keep_services(services)
        for name, text in rendered.items():
            self._state.write(name, text)

    def _await_another(
        self, service: str, held: Sequence[Backend], wanted: Sequence[Backend]
    ) -> None:
        """Wait until a backend that stays is found healthy, if one that goes is."""
        staying = [one for one in wanted if one.state is BackendState.SERVING]
        going = [one for one in held if one not in wanted]
        end = time.monotonic() + HEALTHY_S
        while not self._any_healthy(service, staying):
            if not self._any_healthy(service, going):
                return
            if time.monotonic() > end:
                names = ", ".join(one.cluster for one in going)
                raise GatewayError(
                    f"{names} is not drained: the gateway finds no other replica of {service} "
                    "healthy",
                    "check that the gateway can reach them",
                )
            time.sleep(_STEP_S)

    def _any_healthy(self, service: str, backends: Sequence[Backend]) -> bool:
        current = self._runs.newest()
        if current is None:
            return False
        seen = current.admin.hosts().get(service, {})
        places = (address_of(one, self._addresses) for one in backends)
        return any(place in seen and seen[place].healthy for place in places)

    def _hosts(self, service: str, cluster: str) -> list[Host]:
        """The backend as each process sees it; empty where none knows it."""
        known = [one for one in self._state.services().get(service, ()) if one.cluster == cluster]
        if not known:
            return []
        if known[0].state in HELPING:
            place, envoys = None, f"{service}.{known[0].state}"
        else:
            self._resolved({service: tuple(known)})
            place, envoys = address_of(known[0], self._addresses), service
        found = []
        for run in self._runs.alive():
            seen = run.admin.hosts().get(envoys, {})
            found += [host for at, host in seen.items() if place is None or at == place]
        return found

    def _resolved(self, services: Services) -> dict[str, str]:
        """Addresses of the hosts that have names; one that cannot be looked up keeps its last."""
        for backends in services.values():
            for backend in backends:
                if backend.state in HELPING:
                    continue  # Envoy looks it up
                host, port, _ = target(backend)
                with suppress(OSError):
                    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                    self._addresses[host] = str(found[0][4][0])
        self._state.keep_addresses(self._addresses)
        return self._addresses

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the system's errors into one clear line, and remember it for health()."""
        try:
            yield
        except GatewayError as error:
            self._error = str(error)
            raise
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            self._error = f"the gateway's files cannot be kept: {error.strerror or error}{where}"
            raise GatewayError(
                self._error, "check the folder's permissions and the free space"
            ) from error
        self._error = None


def _held(before: Sequence[Backend], wanted: Sequence[Backend]) -> tuple[Backend, ...]:
    """The wanted set, but with those that are to be drained still serving, if others are to."""
    if not any(one.state is BackendState.SERVING for one in wanted):
        return tuple(wanted)
    serving = {one.cluster for one in before if one.state is BackendState.SERVING}
    return tuple(
        replace(one, state=BackendState.SERVING)
        if one.state is BackendState.DRAINING and one.cluster in serving
        else one
        for one in wanted
    )


def _any_holds(services: Mapping[str, Sequence[Backend]]) -> bool:
    """Whether requests of one of these services may wait."""
    return any(one.holds for backends in services.values() for one in backends)


def _refusals(run: Run) -> int:
    return sum(numbers(run.admin.stats(_REJECTED)).values())


def _version_stat(name: str) -> str:
    """The statistic in which Envoy tells the version of a file."""
    if name == CLUSTERS_FILE:
        return "cluster_manager.cds.version_text"
    if name == ROUTES_FILE:
        return f"http.clients.rds.{ROUTES}.version_text"
    return f"cluster.{name.removesuffix('.endpoints.json')}.version_text"


def _not_taken(run: Run, expected: Mapping[str, str]) -> set[str]:
    """The statistics that do not tell the expected version yet, or that clusters are warming."""
    seen = run.admin.stats(r"\.version_text$|^cluster_manager\.warming_clusters$")
    missing = {stat for stat, version in expected.items() if seen.get(stat) != version}
    warming = seen.get("cluster_manager.warming_clusters")
    return missing | ({"cluster_manager.warming_clusters"} if warming else set())


def _authorities() -> str:
    """The system's file of certificate authorities."""
    named = os.environ.get("SSL_CERT_FILE")
    found = [path for path in (named, *AUTHORITIES) if path and os.path.isfile(path)]
    if not found:
        raise GatewayError(
            "this machine has no file of certificate authorities", "apt-get install ca-certificates"
        )
    return found[0]
