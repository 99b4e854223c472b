"""What is arranged to happen on the local executor: files of its state folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arbiter.domain import OfferKey
from arbiter.errors import ArbiterError, LaunchError, LaunchRejected, NoCapacity, QuotaExceeded
from arbiter.executors.folder import parse_object, write_json
from arbiter.executors.places import arranged
from arbiter.money import Price

CAPACITY, MISPLACED, CHARGED = "capacity.json", "misplace.json", "charged.json"

HANGS = "hangs"
"""Kind of refusal, and the mark of a launch, that says neither yes nor no."""

REFUSALS: Mapping[str, tuple[type[LaunchError], str]] = {
    "none": (NoCapacity, "no capacity (simulated)"),
    "quota": (QuotaExceeded, "the quota does not allow it (simulated)"),
    "rejected": (LaunchRejected, "the request was rejected (simulated)"),
}


class Arrangements:
    """The arrangements of a state folder. Without a file, nothing is arranged."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def refusal(self, key: OfferKey) -> str | None:
        """Why a launch is arranged to fail: a key of REFUSALS, or HANGS; None when it is not.

        Raises:
            ArbiterError: the file holds something else.
        """
        found = arranged(self.read(CAPACITY), key)
        if found is None or found in REFUSALS or found == HANGS:
            return found
        raise ArbiterError(
            f"{self._state}/{CAPACITY}: not a kind of refusal: {found!r}",
            f"use one of {', '.join((*REFUSALS, HANGS))}",
        )

    def charged(self, cluster: str, key: OfferKey) -> Price | None:
        """What a cluster really costs an hour, where that is arranged."""
        prices = self.read(CHARGED)
        found = prices.get(cluster) or arranged(prices, key)
        return Price.of(str(found)) if found is not None else None

    def read(self, file: str) -> Mapping[str, Any]:
        """The object in one of the files.

        Raises:
            ArbiterError: it cannot be read, or is none.
        """
        path = self._state / file
        with explained(f"{path} could not be read"):
            try:
                text = path.read_text()
            except FileNotFoundError:
                return {}
        content = parse_object(text)
        if content is None:
            raise ArbiterError(f"{path} is not a JSON object", "correct it or remove it")
        return content

    def write(self, file: str, arrangements: Mapping[str, Any]) -> None:
        """Replace one of the files."""
        with explained(f"{file} could not be written"):
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(self._state / file, arrangements)


def refused(failed: Mapping[str, Any]) -> LaunchError:
    """The error of a launch that was arranged to fail, from what was kept of it."""
    kind, reason = REFUSALS[failed["kind"]]
    return kind(f"{failed.get('where')}: {reason}", "choose another place")


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the system's errors into one clear line."""
    try:
        yield
    except OSError as failure:
        where = f": {failure.filename}" if failure.filename else ""
        reason = f"{what}: {failure.strerror or failure}{where}"
        raise ArbiterError(reason, "check the folder's permissions and the free space") from failure
