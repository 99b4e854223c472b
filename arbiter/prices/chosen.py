"""From a question to step functions in one unit: what every answer is computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from arbiter.errors import ArbiterError, UnknownName
from arbiter.prices.fx import BASE, DAY_S, EPOCH, NoRate, Rates, Used, converted, shared
from arbiter.prices.question import Question, folded
from arbiter.prices.steps import Flags, Ints, Steps, within
from arbiter.regions import MISTAKEN
from arbiter.sovereignty import Allowed, Level, Rule, judge
from arbiter.store import asked_prices
from arbiter.store.asked_prices import OPEN, as_steps
from arbiter.store.lines import Line, Lines, lines
from arbiter.store.rates import read_rates
from arbiter.store.remembered import chosen_lines, last_seen

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from arbiter.regions import Atlas


class NothingFound(ArbiterError):
    """No series, or no price in the window."""


@dataclass(frozen=True, slots=True)
class Market:
    """What questions are asked of.

    Attributes:
        connection: of `Store.read`.
        rule: the sovereignty rule in force; a question names its level only.
    """

    connection: Connection
    atlas: Atlas
    rule: Rule
    now: datetime
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What every answer says of itself.

    Attributes:
        begin, end: the window, half-open.
        per: "gpu" or "instance": what an hour's price is for.
        series: how many were asked of.
        hours_covered: hours for which a price was known, summed over the series.
        hours_missing: the rest of the window: not on sale, or not seen.
        rate: the reference rates that were used, None where nothing was converted.
    """

    as_of: datetime
    begin: datetime
    end: datetime
    time_zone: str
    currency: str
    per: str
    series: int
    hours_covered: float
    hours_missing: float
    rate: Used | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The series that a question is about, and how they went in its window.

    Attributes:
        lines: the series; a row of `steps` or `listed` is of lines[row.line].
        listed: the prices as the providers list them, each in its own currency per instance,
            with what ended before the window began, so that a change at its first instant shows.
        stands: which rows of `listed` have not ended, as far as is known.
        steps: the prices within the window, in the unit that was asked for.
    """

    question: Question
    lines: Lines
    listed: Steps
    stands: Flags
    steps: Steps
    about: About


def choose(market: Market, question: Question) -> Chosen:
    """Read what a question is about.

    Raises:
        NothingFound, UnknownName: nothing of that name is recorded, or no price in the window.
        NoRate: prices cannot be said in one currency.
    """
    found = find_lines(market, question)
    window = question.window
    rows = asked_prices.intervals(market.connection, found.named, window.begin, window.end)
    listed = as_steps(rows, found, last_seen(market.connection), market.now)
    inside = within(listed, window.begin, window.end)
    if not len(inside):
        raise NothingFound(
            f"no price of the {_series(len(found))} is recorded from {_day(window.begin)} "
            f"to {_day(window.end)}",
            recorded(market, found),
        )
    steps, about = in_unit(market, question, found, inside)
    return Chosen(question, found, listed, rows[:, 2] == OPEN, steps, about)


def in_unit(
    market: Market, question: Question, chosen: Lines, inside: Steps
) -> tuple[Steps, About]:
    """Prices within the window in the currency, and for the unit, of the question.

    Raises:
        NoRate: a reference rate is missing.
    """
    names, place = chosen.currencies
    present = np.unique(place[inside.line]).tolist() if len(names) > 1 else range(len(names))
    sold = sorted(names[one] for one in present)
    currency = question.currency or (sold[0] if len(sold) == 1 else "USD")
    counts = chosen.gpu_counts if question.per == "gpu" else np.ones(len(chosen), np.int64)
    if sold == [currency]:
        steps, used = shared(inside, counts), None
    else:
        steps, used = _converted(market, chosen, inside, counts, sold, currency)
    covered = int(inside.seconds.sum())
    window = question.window
    about = About(
        as_of=market.now,
        begin=datetime.fromtimestamp(window.begin, UTC),
        end=datetime.fromtimestamp(window.end, UTC),
        time_zone=zone_name(question.zone),
        currency=currency,
        per=question.per,
        series=len(chosen),
        hours_covered=hours(covered),
        hours_missing=hours(len(chosen) * window.seconds - covered),
        rate=used,
        simulated=market.simulated,
    )
    return steps, about


def _converted(
    market: Market, chosen: Lines, inside: Steps, counts: Ints, sold: Sequence[str], currency: str
) -> tuple[Steps, Used | None]:
    try:
        rates = _rates(market.connection, sold, currency, inside)
        listed_in = [line.currency for line in chosen]
        return converted(inside, listed_in, counts.tolist(), currency, rates)
    except NoRate as narrow:
        error = _first_missing(market, chosen, inside, currency) or narrow
        raise NoRate(
            f"the prices are in {' and '.join(sold)}, asked for in {currency}: {error.message}",
            error.hint,
        ) from narrow


def _first_missing(market: Market, chosen: Lines, inside: Steps, currency: str) -> NoRate | None:
    """The error as it reads with everything that is stored, not only the days near the window."""
    listed_in = [line.currency for line in chosen]
    needed = sorted({*listed_in, currency} - {BASE})
    stored = read_rates(market.connection, needed, _FIRST_RATES, date.max)
    try:
        converted(inside, listed_in, [1] * len(chosen), currency, stored)
    except NoRate as error:
        return error
    return None


_FIRST_RATES = date(1999, 1, 1)
"""There was no euro before."""


def find_lines(market: Market, question: Question) -> Lines:
    """The series that pass the question's filters.

    Raises:
        NothingFound: there are none.
        UnknownName: because nothing of a name that was given is recorded.
    """
    asked = question.filters, market.rule, market.atlas
    return chosen_lines(market.connection, asked, lambda: _read_lines(market, question))


def _read_lines(market: Market, question: Question) -> Lines:
    found = lines(
        market.connection,
        gpu=question.gpu,
        purchase=question.purchase,
        providers=question.providers,
        regions=_regions(market, question),
        zones=question.zones,
        tiers=question.tiers,
        instance_types=question.instance_types,
    )
    passing = _placed(market, question)
    kept = Lines(line for line in found if passing(line))
    if not kept:
        _explain(market, question)
        raise NothingFound(
            "no series passes all of these filters together", "leave one of them out"
        )
    return kept


GROUPS: Mapping[str, Callable[[Line, Atlas], str]] = {
    "gpu": lambda line, _: line.gpu,
    "provider": lambda line, _: line.provider,
    "region": lambda line, _: f"{line.provider}/{line.region}",
    "country": lambda line, atlas: atlas.place(line.provider, line.region).country or "unknown",
    "tier": lambda line, _: line.tier,
    "purchase": lambda line, _: line.purchase,
    "instance-type": lambda line, _: f"{line.provider}/{line.instance_type}",
    "series": lambda line, _: label(line),
}
"""By what an answer can be split, and how the parts are called."""


def label(line: Line) -> str:
    """A series in one phrase: "aws/eu-north-1/eun1-az1 g6.12xlarge 4x L4 spot"."""
    where = "/".join(part for part in (line.provider, line.region, line.zone) if part)
    tier = "" if line.tier == "standard" else f" {line.tier}"
    return f"{where} {line.instance_type} {line.gpu_count}x {line.gpu} {line.purchase}{tier}"


def grouped(market: Market, chosen: Chosen, by: str | None) -> tuple[list[str], Ints]:
    """The names of the groups in order, and the group of each line. None is one group, "all"."""
    if by is None:
        return ["all"], np.zeros(len(chosen.lines), np.int64)
    if by not in GROUPS:
        raise UnknownName(f"cannot split by {by!r}", f"there are {', '.join(GROUPS)}")
    named = [GROUPS[by](line, market.atlas) for line in chosen.lines]
    names = sorted(set(named))
    place = {name: number for number, name in enumerate(names)}
    return names, np.asarray([place[name] for name in named], np.int64)


def hours(seconds: int) -> float:
    """Seconds as hours, to a hundredth."""
    return round(seconds / 3600, 2)


def zone_name(zone: tzinfo) -> str:
    """The IANA name of a zone."""
    return getattr(zone, "key", "UTC")


def _placed(market: Market, question: Question) -> Callable[[Line], bool]:
    """Whether a series is in the countries and at the level that were asked for."""
    if not question.countries and question.level is None:
        return lambda _line: True
    gate = _gate_of(market, question)
    return lambda line: gate[line.provider, line.region, line.tier]


def _regions(market: Market, question: Question) -> Sequence[str]:
    """Regions to read: those asked for, or else those with a place that may pass, if not all."""
    anywhere = not question.countries and question.level in (None, Level.ANY)
    if question.regions or anywhere:
        return question.regions
    return _gate_of(market, question).regions


class _Gate(dict[tuple[str, str, str], bool]):
    """Whether the places of a region table pass, by provider, region and tier; judged once."""

    def __init__(self, atlas: Atlas, rule: Rule | None, countries: tuple[str, ...]) -> None:
        super().__init__()
        self._atlas, self._rule, self._countries = atlas, rule, countries
        # No tier passes where the provider's own does not; what is not in the table never does.
        passing = (one.region for one in atlas if self[one.provider, one.region, "standard"])
        self.regions = tuple(dict.fromkeys(passing))

    def __missing__(self, key: tuple[str, str, str]) -> bool:
        provider, region, tier = key
        place = self._atlas.place(provider, region)
        passes = not self._countries or place.country in self._countries
        if passes and self._rule is not None:
            passes = isinstance(judge(place, self._rule, tier), Allowed)
        self[key] = passes
        return passes


_gate = lru_cache(maxsize=64)(_Gate)


def _gate_of(market: Market, question: Question) -> _Gate:
    rule = None if question.level is None else replace(market.rule, level=question.level)
    return _gate(market.atlas, rule, question.countries)


def _explain(market: Market, question: Question) -> None:
    """Say which name nothing is recorded of, if there is one."""
    asked = (
        ("gpu", "GPU", () if question.gpu is None else (question.gpu,)),
        ("provider", "provider", question.providers),
        ("region", "region", question.regions),
        ("zone", "zone", question.zones),
        ("tier", "tier", question.tiers),
        ("instance_type", "instance type", question.instance_types),
    )
    for column, word, names in asked:
        recorded = asked_prices.known(market.connection, column) if names else []
        looks = {folded(one): one for one in recorded}
        for name in names:
            if name not in recorded:
                begun = [one for one in looks if one.startswith(folded(name))]
                near = begun or get_close_matches(folded(name), looks, n=1)
                hint = f"did you mean {looks[near[0]]}?" if near else _some_of(recorded)
                raise UnknownName(f"no price of {word} {name!r} is recorded", hint)
    for code in question.countries:
        places = (market.atlas.place(one.provider, one.region) for one in lines(market.connection))
        countries = {place.country for place in places}
        if code not in countries:
            meant = MISTAKEN.get(code)
            hint = f"did you mean {meant}?" if meant else _some_of(sorted(filter(None, countries)))
            raise UnknownName(f"no price in a country {code!r} is recorded", hint)


def _some_of(recorded: Sequence[str]) -> str:
    if not recorded:
        return "run: arbiter poll"
    return f"there are {', '.join(recorded[:6])}{', ...' if len(recorded) > 6 else ''}"


def _rates(connection: Connection, sold: Sequence[str], currency: str, steps: Steps) -> Rates:
    needed = sorted({*sold, currency} - {BASE})
    first, last = int(steps.begin.min()), int(steps.end.max())
    return read_rates(connection, needed, _date(first), _date(last))


def recorded(market: Market, chosen: Lines) -> str | None:
    """What is recorded of the series at all, as a hint; None where nothing is."""
    found = asked_prices.reach(market.connection, chosen.named)
    if found is None:
        return None
    return f"what is recorded begins on {_day(found[0])}, its newest change is of {_day(found[1])}"


def _series(count: int) -> str:
    return "series" if count == 1 else f"{count} series"


def _date(instant: int) -> date:
    return date.fromordinal(EPOCH.toordinal() + instant // DAY_S)


def _day(instant: int) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M} UTC"
