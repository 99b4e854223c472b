"""What a service's servers do now, and what the tokens of the last hour have really cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple

from arbiter.counters import Counters
from arbiter.money import Price

BACK = timedelta(hours=1)

FRESH = timedelta(seconds=60)
"""An older reading says nothing of now."""

MTOK = 1_000_000


class Made(NamedTuple):
    """What one server made up to an instant, in the seconds before it."""

    until: datetime
    seconds: float
    tokens: int
    prompt_tokens: int


class Stood(NamedTuple):
    """A machine that stood, and its price an hour; None where that is not known."""

    since: datetime
    until: datetime
    price: Price | None


@dataclass(frozen=True, slots=True)
class Served:
    """A service, now and in the last hour.

    Attributes:
        tokens_per_s: output tokens per second now, of all replicas; None where none tells.
        running, waiting: requests now; None where none tells.
        since: the beginning of the hour, or of the counting where that is later.
        tokens, prompt_tokens: of the time since then.
        usd: what its machines have cost in that time, those that served nothing, too; None where
            a price is not known in USD.
    """

    tokens_per_s: float | None
    running: int | None
    waiting: int | None
    since: datetime
    tokens: int
    prompt_tokens: int
    usd: Decimal | None

    @property
    def usd_per_mtok(self) -> Decimal | None:
        """USD per million output tokens; None where none were made, or at no known cost."""
        return _per_mtok(self.usd, self.tokens)

    @property
    def usd_per_mtok_of_both(self) -> Decimal | None:
        """USD per million tokens, input and output alike."""
        return _per_mtok(self.usd, self.tokens + self.prompt_tokens)


def served_dict(found: Served | None) -> dict[str, Any]:
    """What servers do now, and what a million output tokens of the last hour cost."""
    return {
        "tokens_per_s": found.tokens_per_s if found else None,
        "requests_running": found.running if found else None,
        "requests_waiting": found.waiting if found else None,
        "served_tokens": found.tokens if found else None,
        "served_since": found.since if found else None,
        "usd_per_mtok": found.usd_per_mtok if found else None,
    }


def served(
    now: datetime,
    since: datetime,
    told: Sequence[tuple[Counters, float | None]],
    made: Iterable[Made],
    stood: Iterable[Stood],
) -> Served:
    """One service's figures.

    Args:
        since: the beginning of the time that is looked at.
        told: the newest reading of every server, with its output tokens per second.
        made: what servers made; of what began before `since` its share counts.
        stood: the service's machines.
    """
    fresh = [(one, rate) for one, rate in told if timedelta(0) <= now - one.at <= FRESH]
    rates = [rate for _, rate in fresh if rate is not None]
    shares = [(one, _share(one, since)) for one in made]
    return Served(
        tokens_per_s=round(sum(rates), 1) if rates else None,
        running=sum(one.running for one, _ in fresh) if fresh else None,
        waiting=sum(one.waiting for one, _ in fresh) if fresh else None,
        since=since,
        tokens=round(sum(one.tokens * share for one, share in shares)),
        prompt_tokens=round(sum(one.prompt_tokens * share for one, share in shares)),
        usd=_cost(now, since, stood),
    )


def _share(made: Made, since: datetime) -> float:
    """The part of it that lies after an instant, as if it had been made evenly."""
    inside = (made.until - since).total_seconds()
    return 0.0 if inside <= 0 else 1.0 if made.seconds <= inside else inside / made.seconds


def _cost(now: datetime, since: datetime, stood: Iterable[Stood]) -> Decimal | None:
    """USD for the machines within a time."""
    total = Decimal(0)
    for one in stood:
        overlap = (min(one.until, now) - max(one.since, since)).total_seconds()
        if overlap <= 0:
            continue
        if one.price is None or one.price.currency != "USD":
            return None
        total += one.price.amount * Decimal(overlap) / 3600
    return total.quantize(Decimal("0.000001"), rounding=ROUND_HALF_EVEN)


def _per_mtok(usd: Decimal | None, tokens: int) -> Decimal | None:
    if usd is None or tokens <= 0:
        return None
    return (usd * MTOK / tokens).quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN)
