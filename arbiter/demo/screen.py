"""What the demo shows while it runs: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from arbiter.api import answers
from arbiter.api.shapes import ReplicaShape, ServiceShape
from arbiter.api.sources import Snapshot
from arbiter.demo.run import Demo
from arbiter.errors import StoreError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

TITLE = "SIMULATED: the market, the servers and the money are not real"
LINES = 8
OFFERS = 5
SUMMARY_S = 10.0


class Journal:
    """Keeps the newest lines of the log for the live view, or prints them."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._lines: deque[str] = deque(maxlen=LINES)

    def __call__(self, kind: str, text: str) -> None:
        """As arbiter.log.Log."""
        if self._live:
            if kind == "journal":
                self._lines.append(text)
        else:
            say(text)

    @property
    def lines(self) -> Sequence[str]:
        """The newest, oldest first."""
        return tuple(self._lines)


def say(text: str) -> None:
    """One line on stdout, at once; a reader that has left stops nobody."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        return


@dataclass(frozen=True, slots=True)
class Figures:
    """What is spent, and what would be."""

    paid: Decimal | None
    dear: Decimal | None

    def __str__(self) -> str:
        if self.paid is None:
            return "spending is not known"
        text = f"spending {self.paid:.2f} USD/h"
        if not self.dear:
            return text
        share = 1 - self.paid / self.dear
        verdict = f"{share:.0%} saved" if share >= 0 else f"{-share:.0%} more"
        return f"{text} against {self.dear:.2f} on demand ({verdict})"


def plain(demo: Demo, stop: threading.Event) -> None:
    """Print the endpoints when they change, and a summary now and then."""
    told: tuple[str, ...] = ()
    typed = False
    waited = 0.0
    while not stop.wait(0.5):
        waited += 0.5
        try:
            snapshot = demo.daemon.sources.snapshot()
        except StoreError:
            continue
        endpoints = tuple(sorted(one.endpoint or "" for one in demo.serving()))
        if endpoints != told:
            told = endpoints
            say(f"answering: {', '.join(f'{one}/v1' for one in endpoints) or 'nobody'}")
            if endpoints and not typed:
                typed = True
                address = demo.address() or endpoints[0]
                say(f"try: {demo.curl(address)}")
                stays = address not in endpoints
                say(
                    "(the gateway's address stays, whatever machines serve it)"
                    if stays
                    else "(an endpoint changes when its replica moves)"
                )
        if waited >= SUMMARY_S:
            waited = 0.0
            say(summary(demo, snapshot))


def summary(demo: Demo, snapshot: Snapshot) -> str:
    """Market time, traffic and money in a line."""
    shape = _service(demo, snapshot)
    tally = demo.tally
    return (
        f"market {demo.market_time():%a %H:%M}: {shape.healthy} of {shape.target} replicas answer, "
        f"{tally.answered} questions answered, {tally.failed} not, {pace(shape)}"
        f"{Figures(shape.usd_hour, shape.on_demand_usd_hour)}"
    )


def pace(shape: ServiceShape) -> str:
    """How fast the simulated servers write, and at what cost, with a comma; "" until they tell."""
    if shape.tokens_per_s is None:
        return ""
    text = f"{shape.tokens_per_s:.0f} tokens/s"
    if shape.usd_per_mtok is not None:
        text += f" at {shape.usd_per_mtok:,.2f} USD per million"
    return f"{text}, "


def _service(demo: Demo, snapshot: Snapshot) -> ServiceShape:
    return answers.service_named(demo.daemon.sources.parts, snapshot, demo.model)


class LiveView:
    """A renderable that is made anew whenever Rich draws it."""

    def __init__(self, demo: Demo, journal: Journal, address: str) -> None:
        self._demo = demo
        self._journal = journal
        self._address = address

    def __rich__(self) -> RenderableType:
        """The whole view."""
        from rich.console import Group
        from rich.text import Text

        try:
            snapshot = self._demo.daemon.sources.snapshot()
            shape = _service(self._demo, snapshot)
        except StoreError as error:
            return Text(str(error))
        return Group(
            Text(f" {TITLE} ", style="bold black on yellow"),
            self._head(shape),
            self._replicas(shape),
            self._offers(snapshot),
            self._log(),
        )

    def _head(self, shape: ServiceShape) -> RenderableType:
        from rich.text import Text

        demo, tally = self._demo, self._demo.tally
        text = Text("\n")
        text.append(f"{shape.name}", style="bold")
        text.append(f"  {shape.healthy} of {shape.target} answer", style="green")
        text.append(f"   market {demo.market_time():%a %Y-%m-%d %H:%M} UTC\n")
        text.append(f"{Figures(shape.usd_hour, shape.on_demand_usd_hour)}\n", style="cyan")
        answered = f"{tally.answered} questions answered, {tally.failed} not, {pace(shape)}"
        text.append(f"{answered.removesuffix(', ')}\n")
        text.append(f"page {self._address}   Ctrl-C ends it and every server\n", style="dim")
        address = demo.address()
        if address is not None:
            text.append(f"try: {demo.curl(address)}\n", style="dim")
        return text

    def _replicas(self, shape: ServiceShape) -> RenderableType:
        table = _table("replica", "state", "place", "machine", "bought", "USD/h", "endpoint")
        for one in shape.replicas:
            table.add_row(*_cells(_replica_cells(one)))
        return table

    def _offers(self, snapshot: Snapshot) -> RenderableType:
        parts = self._demo.daemon.sources.parts
        service = answers.asked_service(parts, snapshot, self._demo.model)
        found = answers.offers(parts, snapshot, service, limit=OFFERS, with_refused=False)
        refused = sum(found.refused_by_rule.values())
        table = _table("offer", "country", "machine", "bought", "USD/Mtok", "USD/h")
        table.title = f"cheapest of {found.eligible} eligible offers, {refused} refused"
        for one in found.offers:
            place = "/".join(part for part in (one.provider, one.region, one.zone) if part)
            machine = f"{one.gpu_count}x {one.gpu}"
            cells = (place, one.country, machine, one.purchase, one.usd_per_mtok)
            table.add_row(*_cells((*cells, one.price_usd_hour)))
        return table

    def _log(self) -> RenderableType:
        from rich.text import Text

        text = Text("\n")
        for line in self._journal.lines:
            text.append("• ", style="dim")
            text.append(f"{line}\n")
        return text


def _replica_cells(one: ReplicaShape) -> tuple[object, ...]:
    place = "/".join(part for part in (one.provider, one.region, one.zone) if part)
    return (
        one.cluster,
        one.state,
        f"{place} ({one.country or '?'})",
        f"{one.gpu_count}x {one.gpu}",
        one.purchase,
        one.price_usd_hour,
        one.endpoint or "-",
    )


def _table(*headings: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(*headings, box=SIMPLE_HEAD, title_justify="left", title_style="bold")


def _cells(values: Sequence[object]) -> list[Text]:
    """As Text: nothing that a provider says is read as markup."""
    from rich.text import Text

    return [Text("?" if value is None else str(value)) for value in values]
