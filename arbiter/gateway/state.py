"""What the gateway keeps on disk, for this user alone: the files hold keys.

<state>/services.json   what every service is served by; what Envoy reads follows from it
        past.json       counts of processes that are gone
        conf/*.json     what Envoy reads (`arbiter.gateway.files`)
        lock            held while any of this is changed
        run-*/          the processes (`arbiter.gateway.process`)
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arbiter.gateway.base import Backend, BackendState
from arbiter.gateway.boot import CLUSTERS_FILE

Counted = Counter[tuple[str, str]]
"""(service, figure) -> number."""


class State:
    """The state folder.

    Attributes:
        conf: what Envoy reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.conf = self.path / "conf"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the folder, which is made when it is missing."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def services(self) -> dict[str, tuple[Backend, ...]]:
        """What was told last."""
        return {
            service: tuple(
                Backend(**{**one, "state": BackendState(one["state"])}) for one in backends
            )
            for service, backends in _read(self.path / "services.json").items()
        }

    def keep_services(self, services: Mapping[str, Sequence[Backend]]) -> None:
        """Remember what was told."""
        told = {name: [asdict(one) for one in backends] for name, backends in services.items()}
        text = json.dumps(told, indent=1, sort_keys=True) + "\n"
        _write_whole(self.path / "services.json", text)

    def past(self) -> Counted:
        """Counts of processes that are gone."""
        told = _read(self.path / "past.json")
        return Counter(
            {(service, name): n for service, one in told.items() for name, n in one.items()}
        )

    def keep_past(self, counted: Counted) -> None:
        """Remember counts."""
        kept: dict[str, dict[str, int]] = {}
        for (service, name), number in counted.items():
            kept.setdefault(service, {})[name] = number
        _write_whole(self.path / "past.json", json.dumps(kept))

    def addresses(self) -> dict[str, str]:
        """Host name -> the IP address that it had last."""
        return {host: str(address) for host, address in _read(self.path / "addresses.json").items()}

    def keep_addresses(self, addresses: Mapping[str, str]) -> None:
        """Remember addresses, for when a name cannot be looked up."""
        _write_whole(self.path / "addresses.json", json.dumps(addresses, sort_keys=True))

    def write(self, name: str, text: str) -> None:
        """Replace a file that Envoy reads, if it says something else."""
        self.conf.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_whole(self.conf / name, text)

    def remove(self, name: str) -> None:
        """Remove a file that Envoy does not read any more."""
        (self.conf / name).unlink(missing_ok=True)

    def written_clusters(self) -> set[str]:
        """Names of the clusters that Envoy was told of last."""
        told = _read(self.conf / CLUSTERS_FILE).get("resources", ())
        return {one["name"] for one in told if "name" in one}


def _read(path: Path) -> dict[str, Any]:
    """The object in a file; empty where it is missing or not whole, for the loop tells it again."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write_whole(path: Path, text: str) -> None:
    """Replace a file as a whole, for this user alone, if it says something else."""
    with suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
