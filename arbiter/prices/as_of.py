"""What stood at an instant, cheapest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from arbiter.prices.chosen import About, Market, NothingFound, find_lines, in_unit, recorded
from arbiter.prices.question import Question
from arbiter.prices.stats import amount
from arbiter.prices.steps import within
from arbiter.store import asked_prices
from arbiter.store.remembered import last_seen


@dataclass(frozen=True, slots=True)
class Stood:
    """A price that stood.

    Attributes:
        price: per hour, in the answer's currency and unit, by the rate of the instant's day.
        listed, currency: per hour for the whole instance, as the provider lists it.
        since: when it began.
    """

    provider: str
    region: str
    zone: str
    country: str | None
    instance_type: str
    gpu: str
    gpu_count: int
    purchase: str
    tier: str
    price: Decimal | None
    listed: Decimal | None
    currency: str
    since: datetime


@dataclass(frozen=True, slots=True)
class AsOfAnswer:
    """The answer of `arbiter prices as-of`. The window is one second long.

    Attributes:
        total: how many stood; `prices` may hold fewer.
    """

    about: About
    at: datetime
    total: int
    prices: list[Stood]


def as_of(market: Market, question: Question, limit: int | None = None) -> AsOfAnswer:
    """The prices of the chosen series at the beginning of the question's window.

    Args:
        limit: at most so many, the cheapest.

    Raises:
        ArbiterError: nothing stood, or prices cannot be said in one currency.
    """
    instant = question.window.begin
    at = datetime.fromtimestamp(instant, UTC)
    lines = find_lines(market, question)
    seen = last_seen(market.connection)
    rows = asked_prices.standing_at(market.connection, lines, seen, instant)
    # What stands now stands for this very second, too.
    listed = asked_prices.as_steps(rows, lines, seen, market.now + timedelta(seconds=1))
    inside = within(listed, instant, instant + 1)
    if not len(inside):
        raise NothingFound(
            f"nothing was on sale at {at:%Y-%m-%d %H:%M:%S} UTC that was asked for",
            recorded(market, lines),
        )
    steps, about = in_unit(market, question, lines, inside)
    stood = listed.picked((listed.begin <= instant) & (listed.end > instant))
    order = np.argsort(steps.micros, kind="stable")[:limit]
    prices = []
    for row in order.tolist():
        line = lines[int(steps.line[row])]
        prices.append(
            Stood(
                line.provider, line.region, line.zone,
                market.atlas.place(line.provider, line.region).country,
                line.instance_type, line.gpu, line.gpu_count, line.purchase, line.tier,
                amount(int(steps.micros[row])), amount(int(stood.micros[row])), line.currency,
                datetime.fromtimestamp(int(stood.begin[row]), UTC),
            )
        )  # fmt: skip
    return AsOfAnswer(about, at, len(inside), prices)
