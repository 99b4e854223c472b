"""How long replays take: a recorded market of 23 days, and a year of our own recorded prices."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from _policy_cells import markets
from _price_history import END, Year, a_year
from _report import Row
from prices import fill

from arbiter.backtest.conditions import Conditions
from arbiter.backtest.planned import Planned
from arbiter.backtest.policies import IN_FORCE, named
from arbiter.backtest.recorded import Recorded, recorded
from arbiter.backtest.run import play
from arbiter.backtest.view import Factory
from arbiter.policy import Policy
from arbiter.prices.chosen import Market as Asked
from arbiter.prices.question import asked
from arbiter.regions import load_atlas
from arbiter.store.engine import Store

SERIES, CHANGES = 12_000, 1_200_000
"""Of a real year: 100 changes of each series."""
POLL_S = 300
MARKET = "aws-v100-9zones-2023a"
MARKET_GOAL_S, YEAR_GOAL_S = 2.0, 60.0


def speed(*, quick: bool) -> list[Row]:
    """Processor seconds of replays, alone in this process."""
    rows = [] if quick else _a_market()
    return [*rows, *_a_year(quick=quick)]


def _a_market() -> list[Row]:
    where = next((one for one in markets(quick=False) if one.name == MARKET), None)
    if where is None:
        return []
    rows = []
    policies: dict[str, Factory] = {"arbiter": named("arbiter"), IN_FORCE: Planned(Policy())}
    for name, factory in policies.items():
        for count in (1, 4):
            seconds = _seconds(lambda f=factory, n=count: play(where, f, "", n, Conditions()))
            text = f"{name} over {where.days:.0f} days and {len(where.zones)} zones, N={count}"
            rows.append(_row(text, seconds, MARKET_GOAL_S))
    return rows


def _a_year(*, quick: bool) -> list[Row]:
    """Choose the series that the policy may use, and ask plan() at every price of theirs."""
    days = 10 if quick else 365
    year = _polled(a_year(SERIES, CHANGES))
    with tempfile.TemporaryDirectory(prefix="arbiter-bench-") as folder:
        store = Store(f"sqlite:///{Path(folder) / 'arbiter.db'}")
        try:
            fill(store, year)
            made: list[Recorded] = []
            seconds = _seconds(lambda: made.append(_chosen(store, days)))
        finally:
            store.close()
    (one,) = made
    factory = Planned(Policy(), one.places, one.tiers)
    seconds += _seconds(lambda: play(one.market, factory, IN_FORCE, 1, Conditions()))
    text = (
        f"{IN_FORCE} over {days} days of {SERIES:,} series, {len(year.changes):,} changes a year, "
        f"polled every 5 minutes, {len(one.market.zones)} of them eligible and of one kind"
    )
    return [_row(text, seconds, YEAR_GOAL_S * days / 365)]


def _polled(year: Year) -> Year:
    """The year as polls every five minutes would have seen it, with spot at about a third."""
    seen = year.changes.copy()
    stands = seen[:, 2] < 0
    spot = np.asarray([one.purchase == "spot" for one in year.series])[seen[:, 0] - 1]
    seen[spot, 3] = seen[spot, 3] * 3 // 10
    for column in (1, 2):
        seen[:, column] = -(-seen[:, column] // POLL_S) * POLL_S
    seen[stands, 2] = -1
    return Year(year.series, seen[stands | (seen[:, 2] > seen[:, 1])])


def _chosen(store: Store, days: int) -> Recorded:
    now = datetime.fromtimestamp(END, UTC)
    policy = Policy()
    with store.read() as connection:
        source = Asked(connection, load_atlas(), policy.sovereignty, now, False)
        return recorded(source, asked(now, since=f"{days}d"), [policy], {})


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _row(name: str, seconds: float, goal: float) -> Row:
    value = round(seconds, 2)
    return Row(name, "cpython", value, "CPU s", None, None, None, goal, value <= goal)
