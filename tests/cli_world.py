"""A machine of its own for tests of the command line: a folder, a clock that stands, a market."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ready_database import ready_sqlite
from sqlalchemy import insert

from arbiter import registry
from arbiter.cli import run
from arbiter.cli.app import App
from arbiter.domain import Purchase
from arbiter.provider import PricedOffer
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook
from arbiter.store.tables import meta
from arbiter.testing import FakeClock, priced

# Any other provider than these would be asked for prices, over the network.
NO_PROVIDER = "".join(f"[providers.{name}]\nenabled = false\n" for name in registry.names())
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
OD = Purchase.ON_DEMAND


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


class Machine:
    """Runs commands in this process, with settings of their own and a clock that stands at NOW."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(NOW)
        self.url = f"sqlite:///{folder / 'arbiter.db'}"
        self.toml = folder / "arbiter.toml"
        self.settings("")

    def settings(self, text: str) -> None:
        """Write the settings file; the database stays where it is."""
        self.toml.write_text(
            f'database_url = "{self.url}"\ndata_dir = "{self.folder}"\nexecutor = "local"\n'
            f"gateway.enabled = false\n{text}"
        )

    def arbiter(self, *arguments: str) -> Ended:
        """Run one command."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["--config", str(self.toml), *arguments], App(self.clock))
        return Ended(code, out.getvalue(), err.getvalue())

    def store(self) -> Store:
        """The database, made when missing; whoever asks closes it."""
        file = self.folder / "arbiter.db"
        if not file.exists():
            ready_sqlite(file)
        return Store(self.url)

    def sells(
        self,
        provider: str,
        offers: Sequence[PricedOffer] = (),
        *,
        state: str = "ok",
        reasons: Iterable[str] = (),
        age_s: float = 60,
    ) -> None:
        """A poll that has been."""
        at = self.clock.now() - timedelta(seconds=age_s)
        row = PollRow(provider, at, at, state, reasons=tuple(reasons))
        covered = frozenset((offer.region, offer.purchase) for offer in offers)
        store = self.store()
        with store.begin() as connection:
            PriceBook(provider).record(connection, offers, covered, row)
        store.close()

    def is_owned(self) -> None:
        """Give the database an identity that is the same in every run."""
        store = self.store()
        with store.begin() as connection:
            connection.execute(insert(meta).values(key="owner", value="0badcafe"))
        store.close()


_market: list[bytes] = []


def market(machine: Machine) -> None:
    """Prices that meet every rule: the EU and its neighbours, spot and on-demand, one bad poll.

    Made once and then copied: each test still has a database of its own.
    """
    path = machine.folder / "arbiter.db"
    if not _market:
        _fill(machine)
        _market.append(path.read_bytes())
    path.write_bytes(_market[0])


def _fill(machine: Machine) -> None:
    machine.sells(
        "aws",
        [
            priced("eu-north-1", "5.80", instance_type="g6e.12xlarge", gpu="L40S", gpu_count=4,
                   zone="eun1-az1"),
            priced("eu-north-1", "2.10", instance_type="g6.12xlarge", gpu="L4", gpu_count=4,
                   zone="eun1-az2"),
            priced("eu-north-1", "13.35", instance_type="g6e.12xlarge", gpu="L40S", gpu_count=4,
                   purchase=OD),
            priced("eu-west-2", "1.20", instance_type="g6.12xlarge", gpu="L4", gpu_count=4,
                   zone="euw2-az1"),
            priced("us-east-1", "1.10", instance_type="g6.12xlarge", gpu="L4", gpu_count=4,
                   zone="use1-az4"),
            priced("eu-central-1", "0.35", instance_type="g6.xlarge", zone="euc1-az2"),
            priced("eu-central-1", "0.30", instance_type="p2.xlarge", gpu="K80", purchase=OD),
        ],
    )  # fmt: skip
    machine.sells(
        "azure",
        [
            priced("swedencentral", "3.60", instance_type="Standard_NC40ads_H100_v5",
                   gpu="H100-NVL"),
            priced("swedencentral", "8.36", instance_type="Standard_NC40ads_H100_v5",
                   gpu="H100-NVL", purchase=OD),
            priced("westeurope", "9.08", instance_type="Standard_NC40ads_H100_v5",
                   gpu="H100-NVL", purchase=OD),
            priced("westeurope", "9.08", instance_type="Standard_NC40ads_H100_v5",
                   gpu="H100-NVL"),
            priced("switzerlandnorth", "2.00", instance_type="Standard_NC40ads_H100_v5",
                   gpu="H100-NVL"),
        ],
        state="degraded",
        reasons=["norwayeast: HTTP 503 after 4 tries"],
    )  # fmt: skip
    machine.sells(
        "runpod",
        [
            priced("EU-RO-1", "2.69", instance_type="H100 SXM", gpu="H100", tier="secure"),
            priced("EU-RO-1", "1.99", instance_type="H100 SXM", gpu="H100", tier="community"),
        ],
        age_s=7200,
    )
    machine.sells(
        "scaleway",
        [priced("fr-par-2", "2.73", instance_type="H100-1-80G", gpu="H100", purchase=OD)],
    )
    machine.sells("lambda", state="failed", reasons=["no API key is set; export LAMBDA_API_KEY"])
