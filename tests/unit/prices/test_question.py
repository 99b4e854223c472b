"""What a user types is read exactly, or refused in one line that says what to type instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from arbiter.errors import ArbiterError
from arbiter.prices.cells import bounds
from arbiter.prices.question import (
    Window,
    asked,
    asked_at,
    parse_amount,
    parse_share,
    parse_span,
    parse_zone,
)

NOW = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def seconds(*when: int, zone: ZoneInfo | None = None) -> int:
    return int(datetime(*when, tzinfo=zone or UTC).timestamp())  # type: ignore[misc,arg-type]


def test_without_a_window_it_is_the_last_ninety_days() -> None:
    window = asked(NOW).window
    assert (window.end, window.seconds) == (int(NOW.timestamp()), 90 * 86_400)


def test_a_date_without_an_offset_is_meant_in_the_zone() -> None:
    there = asked(NOW, begin="2026-09-01", end="2026-10-01", zone="Europe/Berlin").window
    assert there == Window(seconds(2026, 9, 1, zone=BERLIN), seconds(2026, 10, 1, zone=BERLIN))
    offset = asked(NOW, begin="2026-09-01T00:00+02:00", zone="Asia/Tokyo").window
    assert offset.begin == there.begin


def test_the_future_is_cut_off() -> None:
    assert asked(NOW, begin="2026-10-01", end="2027-01-01").window.end == int(NOW.timestamp())


@pytest.mark.parametrize(("text", "span"), [
    ("30m", timedelta(minutes=30)), ("12h", timedelta(hours=12)), ("90d", timedelta(days=90)),
    ("8W", timedelta(weeks=8)),
])  # fmt: skip
def test_a_span(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            {"since": "soon"},
            "'soon' is no length of time; write it as 12h, 90d or 8w; a day is for --from",
        ),
        ({"since": "0d"}, "'0d' is no length of time"),
        ({"since": "999999w"}, "'999999w' is no length of time"),
        ({"since": "1d", "begin": "2026-10-01"}, "both --since and --from are given"),
        ({"begin": "1.10.2026"}, "'1.10.2026' is no date or time; write it as 2026-09-01"),
        ({"begin": "2026-10-02", "end": "2026-10-01"}, "swap --from and --to"),
        ({"begin": "2026-10-02", "end": "2026-10-02"}, "swap --from and --to"),
        ({"begin": "2027-01-01"}, "2027-01-01 00:00 UTC, which has not come yet"),
        ({"zone": "Europ/Berlin"}, "no time zone 'Europ/Berlin'; did you mean Europe/Berlin?"),
        ({"zone": "berlin"}, "did you mean Europe/Berlin?"),
        ({"zone": "New York"}, "did you mean America/New_York?"),
        ({"zone": "Europe"}, "there is no time zone 'Europe'"),
        ({"zone": "../../etc/passwd"}, "there is no time zone"),
        ({"zone": "??"}, "use a name such as Europe/Berlin"),
        ({"countries": ["Germany"]}, "'Germany' is no country code; use two letters, such as DE"),
        ({"purchase": "spott"}, "there is no purchase 'spott'; there are spot, on_demand"),
        ({"currency": "EURO"}, "'EURO' is no currency; use three letters, such as EUR"),
        ({"sovereignty": "europe"}, "europe"),
        ({"per": "hour"}, "use gpu or instance"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(typed: dict[str, str], said: str) -> None:
    with pytest.raises(ArbiterError) as refused:
        asked(NOW, **typed)  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_are_forgiven_their_case() -> None:
    question = asked(NOW, gpu="h100", countries=["de"], purchase="on-demand", currency="eur")
    assert (question.gpu, question.countries, question.currency) == ("H100", ("DE",), "EUR")
    assert question.purchase == "on_demand"
    assert parse_zone("utc") is UTC


def test_an_instant_is_a_window_of_a_second() -> None:
    assert asked_at(NOW, None).window == Window(int(NOW.timestamp()), int(NOW.timestamp()) + 1)
    with pytest.raises(ArbiterError, match="2026-11-01 12:31 UTC has not come yet"):
        asked_at(NOW, "2026-11-01T12:31")


def test_amounts_and_shares_are_exact() -> None:
    assert parse_amount("2.50") == 2_500_000
    assert [parse_share(text) for text in ("0", "99.5", "100%")] == [0, 9950, 10_000]
    for wrong in ("", "-1", "0", "nan", "inf", "1e99", "two"):
        with pytest.raises(ArbiterError, match="is no price"):
            parse_amount(wrong)
    for wrong in ("", "-1", "100.01", "99.999", "nan", "most"):
        with pytest.raises(ArbiterError, match="is no percentage"):
            parse_share(wrong)


# --- grids ----------------------------------------------------------------------------------


def test_a_day_has_23_or_25_hours_when_clocks_change() -> None:
    window = Window(seconds(2026, 3, 28, zone=BERLIN), seconds(2026, 3, 31, zone=BERLIN))
    days = bounds(window, "1d", BERLIN)
    assert [(b - a) // 3600 for a, b in pairwise(days)] == [24, 23, 24]
    hours = bounds(window, "1h", BERLIN)
    assert len(hours) - 1 == 71
    autumn = Window(seconds(2026, 10, 25, zone=BERLIN), seconds(2026, 10, 26, zone=BERLIN))
    assert len(bounds(autumn, "1h", BERLIN)) - 1 == 25
    sixes = bounds(autumn, "6h", BERLIN)
    assert [(b - a) // 3600 for a, b in pairwise(sixes)] == [6, 6, 6, 6, 1]


def test_weeks_begin_on_mondays_and_months_on_the_first() -> None:
    window = Window(seconds(2026, 10, 14, 9), seconds(2026, 11, 1))
    weeks = [datetime.fromtimestamp(one, UTC) for one in bounds(window, "7d", UTC)]
    assert {one.weekday() for one in weeks} == {0}
    assert bounds(window, "1w", UTC) == bounds(window, "7d", UTC)
    months = [datetime.fromtimestamp(one, UTC) for one in bounds(window, "1mo", UTC)]
    assert months == [datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)]


@pytest.mark.parametrize("grid", ["1h", "4h", "12h", "1d", "7d", "1mo"])
@pytest.mark.parametrize("name", ["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia"])
def test_cells_enclose_the_window_and_never_cross_midnight(grid: str, name: str) -> None:
    zone = ZoneInfo(name)
    window = Window(seconds(2026, 3, 5, 3, 17), seconds(2026, 4, 9, 22, 1))
    found = bounds(window, grid, zone)
    assert found[0] <= window.begin < found[1]
    assert found[-2] < window.end <= found[-1]
    assert found == sorted(set(found))
    if grid.endswith("h"):
        for begin, end in pairwise(found):
            days = {datetime.fromtimestamp(one, zone).date() for one in (begin, end - 1)}
            assert len(days) == 1


@pytest.mark.parametrize("grid", ["5m", "5h", "2d", "h", "", "0h", "1y"])
def test_another_grid_is_refused_with_those_there_are(grid: str) -> None:
    with pytest.raises(ArbiterError, match=r"there is no grid .* use 1h, 2h"):
        bounds(Window(0, 1), grid, UTC)


def test_a_grid_of_too_many_cells_is_refused() -> None:
    with pytest.raises(ArbiterError, match="too many cells; take a coarser one"):
        bounds(Window(0, seconds(2026, 1, 1)), "1h", UTC)
