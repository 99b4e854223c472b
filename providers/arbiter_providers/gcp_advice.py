"""Compute Engine's advice on spot machines: past prices, preemption rates, obtainability.

`advice/capacityHistory` and `advice/capacity` answer for one machine type and one region a call.
What the two answer is documented at cloud.google.com/compute/docs/instances under
view-spot-preemption-price and view-vm-availability.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.provider import PastPrice, PricedOffer, Signal, Skip
from arbiter.quality import Malformed, malformed, read_price
from arbiter.typed import convert
from arbiter_providers.gcp_machines import Catalogue, Machine
from arbiter_providers.gcp_skus import money

HISTORY, CAPACITY = "capacityHistory", "capacity"
"""The two questions, as the API names them."""

PREEMPTION_RATE, OBTAINABILITY, UPTIME = "preemption_rate", "obtainability", "estimated_uptime"

UNITS = {
    PREEMPTION_RATE: "share of stopped spot VMs per day, 0..1",
    OBTAINABILITY: "0..1",
    UPTIME: "seconds",
}

SOURCE = "gcp:capacity-history"
DAY = timedelta(days=1)


def ask_history(machine_type: str, *kinds: str) -> dict[str, Any]:
    """The question for the past of one machine type, of a whole region.

    Args:
        kinds: "PRICE" (the past year), "PREEMPTION" (the past 30 days).
    """
    return {
        "types": list(kinds),
        "instanceProperties": {
            "machineType": machine_type,
            "scheduling": {"provisioningModel": "SPOT"},
        },
    }


def ask_capacity(machine_type: str, zones: Sequence[str]) -> dict[str, Any]:
    """The question for the chance of one more machine in any of the zones; none means any."""
    distribution: dict[str, Any] = {"targetShape": "ANY"}
    if zones:
        distribution["zones"] = [{"zone": f"zones/{zone}"} for zone in zones]
    return {
        "instanceProperties": {"scheduling": {"provisioningModel": "SPOT"}},
        "instanceFlexibilityPolicy": {
            "instanceSelections": {"any": {"machineTypes": [machine_type]}}
        },
        "distributionPolicy": distribution,
        "size": 1,
    }


# --- answers ----------------------------------------------------------------------------------


class _Interval(msgspec.Struct, gc=False):
    startTime: datetime
    endTime: datetime | None = None


class _ListPrice(msgspec.Struct, gc=False):
    currencyCode: str = "USD"
    units: str | int = 0
    nanos: int = 0


class _PriceRecord(msgspec.Struct, gc=False):
    interval: _Interval
    listPrice: _ListPrice


class _PreemptionRecord(msgspec.Struct, gc=False):
    interval: _Interval
    preemptionRate: Decimal


class _History(msgspec.Struct, gc=False):
    priceHistory: list[msgspec.Raw] = msgspec.field(default_factory=list)
    preemptionHistory: list[msgspec.Raw] = msgspec.field(default_factory=list)


class _Scores(msgspec.Struct, gc=False):
    obtainability: Decimal | None = None
    estimatedUptime: str | None = None


class _Recommendation(msgspec.Struct, gc=False):
    scores: _Scores = msgspec.field(default_factory=_Scores)


class _Capacity(msgspec.Struct, gc=False):
    recommendations: list[msgspec.Raw] = msgspec.field(default_factory=list)


class _Said(msgspec.Struct, gc=False):
    """One answer, with the region and the machine type that were asked about."""

    region: str
    machine_type: str
    answer: bytes


class _Brought(msgspec.Struct, gc=False):
    """The answers to one question.

    Attributes:
        whole: every machine type and region that has an answer is there.
    """

    answers: list[_Said]
    whole: bool = False


class _Past(_Brought, gc=False):
    """The answers about the past, and the window that was asked for."""

    since: datetime = datetime.min.replace(tzinfo=UTC)
    until: datetime = datetime.max.replace(tzinfo=UTC)


_B = TypeVar("_B", bound=_Brought)

_read_history = msgspec.json.Decoder(_History).decode
_read_capacity = msgspec.json.Decoder(_Capacity).decode
_read_price_record = msgspec.json.Decoder(_PriceRecord).decode
_read_preemption_record = msgspec.json.Decoder(_PreemptionRecord).decode
_read_recommendation = msgspec.json.Decoder(_Recommendation).decode


def _open(body: object, shape: type[_B]) -> _B:
    try:
        return convert(body, shape)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"gcp: a page of advice has another shape: {error}") from error


def _history(said: _Said) -> _History | Skip:
    try:
        return _read_history(said.answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return malformed("history of another shape", said.answer)


# --- past prices ------------------------------------------------------------------------------


def past_prices(body: object, catalogue: Catalogue, now: datetime) -> Iterator[PastPrice | Skip]:
    """The spot prices of whole machines, neighbours of one price as one.

    A price ends where its record says so, and is not known after that; it has no end where the
    next record begins at once, or where the end lies ahead.

    Raises:
        BadAnswer: not a page of advice.
    """
    brought = _open(body, _Past)
    for said in brought.answers:
        machine, history = catalogue.machines.get(said.machine_type), _history(said)
        if machine is None:
            yield Skip("not a GPU machine")
            continue
        if isinstance(history, Skip):
            yield history
            continue
        prices: list[PastPrice] = []
        for raw in history.priceHistory:
            found = _past_price(raw, said.region, machine, now)
            if isinstance(found, Skip):
                yield found
            elif found.valid_from >= brought.until or _over(found, brought.since):
                yield Skip("outside the time that was asked for")
            else:
                prices.append(found)
        yield from _joined(prices)


def _over(price: PastPrice, at: datetime) -> bool:
    return price.valid_to is not None and price.valid_to <= at


def _past_price(raw: msgspec.Raw, region: str, machine: Machine, now: datetime) -> PastPrice | Skip:
    try:
        record = _read_price_record(raw)
        begin, end = _span(record.interval)
        if record.listPrice.currencyCode != "USD":
            raise Malformed(f"currency is {record.listPrice.currencyCode[:8]}, not USD")
        price = read_price(money(record.listPrice.units, record.listPrice.nanos))
    except Malformed as error:
        return malformed(str(error), bytes(raw))
    except (msgspec.MsgspecError, ArithmeticError, UnicodeDecodeError):
        return malformed("record of the wrong shape", bytes(raw))
    if begin > now:
        return malformed("price of the future", bytes(raw))
    offer = PricedOffer(
        tier="standard",
        region=region,
        zone=None,
        instance_type=machine.name,
        gpu=machine.gpu,
        gpu_count=machine.gpu_count,
        purchase=Purchase.SPOT,
        price=price,
        priced_at=begin,
        source=SOURCE,
    )
    return PastPrice(offer, begin, end if end is None or end <= now else None)


def _joined(records: Iterable[PastPrice]) -> Iterator[PastPrice]:
    """The records in their order, those that touch and have the same price as one."""
    last: PastPrice | None = None
    for record in sorted(records, key=lambda one: (one.valid_from, one.offer.price.micros)):
        if last is None:
            last = record
        elif last.valid_to is not None and last.valid_to < record.valid_from:
            yield last  # a gap
            last = record
        elif last.offer.price == record.offer.price:
            last = replace(last, valid_to=record.valid_to)
        else:
            yield replace(last, valid_to=None)
            last = record
    if last is not None:
        yield last


def _span(interval: _Interval) -> tuple[datetime, datetime | None]:
    """Start and end in UTC.

    Raises:
        Malformed: no time zone, or an end that is not after the start.
    """
    begin, end = interval.startTime, interval.endTime
    if begin.tzinfo is None or (end is not None and end.tzinfo is None):
        raise Malformed("interval without a time zone")
    if end is not None and end <= begin:
        raise Malformed("interval that ends before it begins")
    return begin.astimezone(UTC), end.astimezone(UTC) if end else None


# --- signals ----------------------------------------------------------------------------------


def preemption_rates(body: object, now: datetime) -> tuple[list[Signal], list[Skip], bool]:
    """The rate of the last day that is over, of every machine type and region.

    The day that still runs is left out, for its figure still changes. An answer without a record
    says nothing: that is not a rate of 0.

    Returns:
        The signals, what was left out, and whether the page shows the kind completely.

    Raises:
        BadAnswer: not a page of advice.
    """
    brought = _open(body, _Brought)
    signals: list[Signal] = []
    skips: list[Skip] = []
    for said in brought.answers:
        days: dict[datetime, Decimal] = {}
        history = _history(said)
        if isinstance(history, Skip):
            skips.append(history)
            continue
        for raw in history.preemptionHistory:
            try:
                record = _read_preemption_record(raw)
                rate = record.preemptionRate
                if not 0 <= rate <= 1:
                    raise Malformed("preemption rate outside 0 to 1")
                days |= dict.fromkeys(_days(record.interval), rate)
            except Malformed as error:
                skips.append(malformed(str(error), bytes(raw)))
            except (msgspec.MsgspecError, ArithmeticError, UnicodeDecodeError):
                skips.append(malformed("record of the wrong shape", bytes(raw)))
        over = [day for day in days if day + DAY <= now]
        if over:
            day = max(over)
            signals.append(_signal(PREEMPTION_RATE, said, days[day], day))
    return signals, skips, brought.whole


def _days(interval: _Interval) -> list[datetime]:
    """The days of a record: equal neighbours come as one. A day of 23 or 25 hours is a day."""
    begin, end = _span(interval)
    length = (end - begin) if end else DAY
    count = max(1, round(length / DAY))
    if count > 400:
        raise Malformed("preemption rate of more than a year")
    return [begin + n * DAY for n in range(count)]


def obtainability(body: object) -> tuple[list[Signal], list[Skip], bool]:
    """How likely one more spot machine is to be had, and for how long. The answer has no time.

    Returns:
        The signals, what was left out, and whether the page shows the kinds completely.

    Raises:
        BadAnswer: not a page of advice.
    """
    brought = _open(body, _Brought)
    signals: list[Signal] = []
    skips: list[Skip] = []
    for said in brought.answers:
        try:
            capacity = _read_capacity(said.answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            skips.append(malformed("capacity of another shape", said.answer))
            continue
        for raw in capacity.recommendations[:1]:
            try:
                signals += _scores(said, _read_recommendation(raw).scores)
            except Malformed as error:
                skips.append(malformed(str(error), bytes(raw)))
            except (msgspec.MsgspecError, ArithmeticError, UnicodeDecodeError):
                skips.append(malformed("recommendation of the wrong shape", bytes(raw)))
    return signals, skips, brought.whole


def _scores(said: _Said, scores: _Scores) -> list[Signal]:
    found: list[Signal] = []
    if scores.obtainability is not None:
        if not 0 <= scores.obtainability <= 1:
            raise Malformed("obtainability outside 0 to 1")
        found.append(_signal(OBTAINABILITY, said, scores.obtainability))
    if scores.estimatedUptime is not None:
        seconds = Decimal(scores.estimatedUptime.removesuffix("s"))
        if not (seconds.is_finite() and seconds >= 0):
            raise Malformed("estimated uptime is not a time")
        found.append(_signal(UPTIME, said, seconds))
    return found


def _signal(kind: str, said: _Said, figure: Decimal, observed_at: datetime | None = None) -> Signal:
    return Signal(
        kind=kind,
        unit=UNITS[kind],
        region=said.region,
        zone=None,
        instance_type=said.machine_type,
        purchase=Purchase.SPOT,
        low=figure,
        high=figure,
        observed_at=observed_at,
    )
