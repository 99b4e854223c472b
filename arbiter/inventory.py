"""The clouds' own word on the machines that run for us, beside the executor's list.

SkyPilot forgets what it lost track of; the cloud goes on charging for it. Every machine carries the
tag `arbiter-owner`, or, where a cloud has no tags, a name that begins with `arb-OWNER-`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from arbiter.errors import ArbiterError
from arbiter.money import Price
from arbiter.render import label

OWNER_TAG, CLUSTER_TAG = "arbiter-owner", "arbiter-cluster"

PATIENCE_S = 0.3
"""Seconds that a survey is waited for when it begins; what takes longer is taken up later."""

CUT_FROM = 56
"""Length of a name on a cloud without tags from which SkyPilot may have cut it (Lambda: at 57)."""

_NODE = re.compile(r"-(head|worker)$")
_CUT = re.compile(r"(.+)-[0-9a-z]{2}-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that a provider lists, and may charge for.

    Attributes:
        id: the provider's own.
        region: in the provider's words; zone likewise, None where it has none.
        owner, cluster: from its tags; None where it has none.
        price: what it really costs an hour; None where the provider does not tell.
    """

    provider: str
    id: str
    region: str
    name: str = ""
    zone: str | None = None
    owner: str | None = None
    cluster: str | None = None
    price: Price | None = None

    @property
    def key(self) -> str:
        """What identifies it among all providers' machines ("aws/eu-north-1/i-0a1b")."""
        return f"{self.provider}/{self.region}/{self.id}"


class Inventory(Protocol):
    """One provider's machines."""

    def machines(self, owner: str, regions: Collection[str]) -> Sequence[Machine]:
        """The machines that carry an owner's tag, or whose name begins as its clusters' do.

        Args:
            regions: where launches were asked for; a provider that answers for all may tell more.

        Raises:
            ProviderError: they cannot be listed, in one region or at all. Then nothing is known.
        """
        ...

    def end(self, machine: Machine) -> None:
        """Have a machine ended for good; one that is gone already is success.

        Raises:
            ProviderError: it was refused, or there was no answer.
        """
        ...


Inventories = Callable[[str], Inventory | None]
"""By a provider's name; None where its machines cannot be listed."""


def no_inventories(_provider: str) -> Inventory | None:
    """Where nothing is launched on clouds."""
    return None


def is_ours(machine: Machine, owner: str) -> bool:
    """Whether a machine is this owner's: by its tag, and by its name only where it has none."""
    if machine.owner:
        return machine.owner == owner
    return machine.name.lower().startswith(f"arb-{owner}-")


def belongs(machine: Machine, cluster: str) -> bool:
    """Whether a machine is one of a cluster's, as far as tag or name can tell."""
    if machine.cluster:
        return machine.cluster == label(cluster)
    stem = _NODE.sub("", machine.name.lower())
    name = re.sub(r"[._]", "-", cluster.lower())
    if stem == name or re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{8}}", stem):
        return True
    cut = _CUT.fullmatch(stem)
    return cut is not None and len(stem) >= CUT_FROM and name.startswith(cut[1])


def unowned(
    machines: Iterable[Machine], owner: str, clusters: Collection[str]
) -> dict[str, Machine]:
    """Key -> machine of this owner that is none of these clusters'."""
    return {
        one.key: one
        for one in machines
        if is_ours(one, owner) and not any(belongs(one, cluster) for cluster in clusters)
    }


def prices(machines: Iterable[Machine], owner: str, clusters: Collection[str]) -> dict[str, Price]:
    """Cluster -> what its machine really costs an hour, where a provider tells."""
    told = [one for one in machines if one.price is not None and is_ours(one, owner)]
    return {
        cluster: one.price
        for one in told
        for cluster in clusters
        if one.price is not None and belongs(one, cluster)
    }


@dataclass(frozen=True, slots=True)
class Survey:
    """What the providers answered.

    Attributes:
        machines: of those that answered.
        failed: provider -> why it did not.
    """

    machines: tuple[Machine, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


class Surveyor:
    """Asks all providers at once, in a thread: a cloud that is slow holds up nothing.

    Args:
        patience_s: seconds that a new survey is waited for.
    """

    def __init__(self, inventories: Inventories, patience_s: float = PATIENCE_S) -> None:
        self._inventories = inventories
        self._patience_s = patience_s
        self._thread: threading.Thread | None = None
        self._found: Survey | None = None

    def begin(self, owner: str, places: Mapping[str, Collection[str]]) -> None:
        """Begin a survey, unless one goes on.

        Args:
            places: provider -> regions where launches were asked for.
        """
        if self._thread is not None:
            return
        self._thread = threading.Thread(
            target=self._run, args=(owner, dict(places)), name="survey", daemon=True
        )
        self._thread.start()
        self._thread.join(self._patience_s)

    def taken(self) -> Survey | None:
        """The survey that has ended since this was last asked, or None."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread, found = None, self._found
        self._found = None
        return found

    def end(self, machine: Machine) -> None:
        """Have a machine ended.

        Raises:
            ArbiterError: it could not be.
        """
        inventory = self._inventories(machine.provider)
        if inventory is None:
            raise ArbiterError(f"{machine.provider}'s machines cannot be ended from here")
        inventory.end(machine)

    def _run(self, owner: str, places: Mapping[str, Collection[str]]) -> None:
        machines: list[Machine] = []
        failed: dict[str, str] = {}
        for provider, regions in sorted(places.items()):
            try:
                inventory = self._inventories(provider)
                if inventory is None:
                    failed[provider] = "arbiter cannot list its machines; SkyPilot's list stands"
                else:
                    machines += inventory.machines(owner, regions)
            except ArbiterError as error:
                failed[provider] = str(error)
            except Exception as error:  # noqa: BLE001  a thread has nobody else to tell
                failed[provider] = f"{type(error).__name__}: {error}"
        self._found = Survey(tuple(machines), failed)
