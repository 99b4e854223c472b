"""The number of replicas that a service should have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from arbiter.errors import ArbiterError
from arbiter.scaling import Load, Reaction, Scaling, Target, noted, target
from arbiter.service_hours import ScheduleWindow

MONDAY = datetime(2026, 11, 2, 12, tzinfo=UTC)
REACTION = Reaction()
OFFICE = "mon-fri 08:00-20:00 Europe/Berlin = 4"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def looks(
    *steps: tuple[float, int], end: datetime = MONDAY, every_s: int = 10, passed: bool = True
) -> list[Load]:
    """A history of looks: each step is (seconds, requests), the last one ends at `end`."""
    history: list[Load] = []
    now = end - timedelta(seconds=sum(seconds for seconds, _ in steps))
    count = 0
    for seconds, requests in steps:
        for _ in range(int(seconds // every_s)):
            now += timedelta(seconds=every_s)
            count += bool(requests) and passed
            newest = noted(history[-1] if history else None, now, requests, count, REACTION)
            history = [*(history[:-1] if _stands(history, newest) else history), newest]
    return history


def _stands(history: Sequence[Load], newest: Load) -> bool:
    return bool(history) and history[-1].since == newest.since


def wanted(
    scaling: Scaling,
    current: int,
    history: Sequence[Load],
    now: datetime = MONDAY,
    per_replica: float = 8,
) -> Target:
    local = {one.zone: now.astimezone(ZoneInfo(one.zone)) for one in scaling.schedule}
    return target(now, scaling, current, per_replica, history, local, REACTION)


# --- load ---------------------------------------------------------------------------------------


def test_a_minute_of_load_adds_the_replicas_that_it_needs() -> None:
    found = wanted(Scaling(1, 8), 1, looks((300, 2), (60, 30)))
    assert found == Target(4, "30.0 requests at a time in the last 60 s, 8 for each replica")


def test_a_peak_of_a_few_seconds_adds_what_its_minute_needs() -> None:
    assert wanted(Scaling(1, 8), 1, looks((300, 0), (10, 30))).replicas == 1
    assert wanted(Scaling(1, 8), 1, looks((300, 0), (20, 30))).replicas == 2


def test_a_load_within_the_tolerance_changes_nothing() -> None:
    assert wanted(Scaling(1, 8), 2, looks((400, 17))).replicas == 2
    assert wanted(Scaling(1, 8), 2, looks((400, 18))).replicas == 3
    assert wanted(Scaling(1, 8), 3, looks((400, 15))).replicas == 3
    assert wanted(Scaling(1, 8), 3, looks((400, 14))).replicas == 2


def test_a_replica_goes_only_once_no_minute_of_five_has_needed_it() -> None:
    assert wanted(Scaling(1, 8), 4, looks((300, 30), (290, 2))).replicas == 4
    assert wanted(Scaling(1, 8), 4, looks((300, 30), (300, 2))).replicas == 4
    assert wanted(Scaling(1, 8), 4, looks((300, 30), (360, 2))) == Target(
        1, "at most 2.0 requests at a time for 300 s, 8 for each replica"
    )


def test_the_bounds_hold_whatever_the_load() -> None:
    assert wanted(Scaling(1, 3), 1, looks((400, 500))).replicas == 3
    assert "at most 3 may run" in wanted(Scaling(1, 3), 1, looks((400, 500))).reason
    assert wanted(Scaling(2, 3), 2, looks((400, 0))) == Target(2, "at least 2 were ordered")
    assert wanted(Scaling(2, 3), 7, []).replicas == 3
    assert wanted(Scaling(2, 3), 1, []).replicas == 2


def test_what_is_not_known_ends_nothing_and_adds_nothing() -> None:
    """After a gap in the looks, as when the daemon was down for a while."""
    old = looks((600, 1), end=MONDAY - timedelta(hours=1))
    assert wanted(Scaling(1, 8), 4, old).replicas == 4
    assert wanted(Scaling(0, 8), 4, old).replicas == 4
    assert wanted(Scaling(1, 8), 4, [*old, *looks((200, 1))]).replicas == 4
    assert wanted(Scaling(1, 8), 4, [*old, *looks((370, 1))]).replicas == 1
    assert wanted(Scaling(1, 8), 1, [*old, *looks((20, 30))]).replicas == 1


def test_looks_from_the_future_are_left_aside() -> None:
    """They were written before the clock was set back."""
    ahead = looks((600, 90), end=MONDAY + timedelta(hours=1))
    assert wanted(Scaling(1, 8), 2, ahead).replicas == 2


# --- zero ---------------------------------------------------------------------------------------


def test_the_last_one_is_ended_after_an_idle_time() -> None:
    scaling = Scaling(0, 2, idle_s=900)
    assert wanted(scaling, 1, looks((60, 1), (890, 0))).replicas == 1
    assert wanted(scaling, 1, looks((60, 1), (900, 0))) == Target(0, "no request came for 900 s")
    assert wanted(Scaling(1, 2), 1, looks((60, 1), (9000, 0))).replicas == 1


def test_a_request_that_came_and_went_between_two_looks_was_there() -> None:
    quiet = looks((900, 0))
    again = noted(quiet[-1], MONDAY + timedelta(seconds=10), 0, quiet[-1].passed + 1, REACTION)
    later = MONDAY + timedelta(seconds=10)
    assert wanted(Scaling(0, 2), 1, [*quiet, again], later).replicas == 1


def test_a_request_wakes_a_service_at_zero() -> None:
    scaling = Scaling(0, 4)
    quiet = looks((5000, 0), end=MONDAY - timedelta(seconds=10))
    assert wanted(scaling, 0, quiet) == Target(0, "no request came")
    held = [*quiet, noted(quiet[-1], MONDAY, 1, quiet[-1].passed, REACTION)]
    assert wanted(scaling, 0, held) == Target(1, "a request came")
    refused = [*quiet, noted(quiet[-1], MONDAY, 0, quiet[-1].passed + 1, REACTION)]
    assert wanted(scaling, 0, refused) == Target(1, "a request came")
    many = [*quiet, noted(quiet[-1], MONDAY, 30, quiet[-1].passed, REACTION)]
    assert wanted(scaling, 0, many).replicas == 4


def test_what_was_just_ended_for_idleness_stays_ended() -> None:
    scaling = Scaling(0, 4, idle_s=60)
    history = looks((60, 1), (60, 0))
    assert wanted(scaling, 1, history).replicas == 0
    assert wanted(scaling, 0, history).replicas == 0


# --- schedule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (OFFICE, OFFICE),
        ("daily 8:00-20:00=2", "daily 08:00-20:00 UTC = 2"),
        ("sun-sat 00:00-24:00 UTC = 1", "daily 00:00-24:00 UTC = 1"),
        (
            "fri-mon 22:00-06:00 America/New_York = 0",
            "mon,fri-sun 22:00-06:00 America/New_York = 0",
        ),
        ("tue,thu 09:30-17:00 Etc/GMT+3 = 12", "tue,thu 09:30-17:00 Etc/GMT+3 = 12"),
    ],
)
def test_a_schedule_is_read_and_printed(text: str, printed: str) -> None:
    window = ScheduleWindow.parse(text)
    assert str(window) == printed
    assert ScheduleWindow.parse(printed) == window


@pytest.mark.parametrize(
    "text",
    ["", "weekdays 08:00-20:00 = 2", "mon 8-20 = 2", "mon 08:00-20:60 = 2", "mon 24:00-25:00 = 2",
     "mon 08:00-20:00", "mon 08:00-20:00 = -1", "mon 08:00-20:00 = 65", "mon-xyz 08:00-20:00 = 1"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ArbiterError) as refused:
        ScheduleWindow.parse(text)
    assert refused.value.hint


def test_a_schedule_is_meant_in_its_own_time_summer_and_winter() -> None:
    office = Scaling(1, None, (ScheduleWindow.parse(OFFICE),))
    for instant, replicas in (
        ("2026-07-06T05:59", 1),
        ("2026-07-06T06:00", 4),  # Monday, summer: UTC+2
        ("2026-07-06T17:59", 4),
        ("2026-07-06T18:00", 1),
        ("2026-12-07T06:59", 1),
        ("2026-12-07T07:00", 4),  # Monday, winter: UTC+1
        ("2026-12-05T12:00", 1),  # Saturday
    ):
        assert wanted(office, 1, [], at(instant)).replicas == replicas, instant


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    night = Scaling(0, None, (ScheduleWindow.parse("fri 22:00-06:00 = 2"),))
    for instant, replicas in (
        ("2026-11-06T21:59", 0),
        ("2026-11-06T22:00", 2),
        ("2026-11-07T05:59", 2),
        ("2026-11-07T06:00", 0),
        ("2026-11-07T23:00", 0),
    ):
        assert wanted(night, 0, [], at(instant)).replicas == replicas, instant


def test_the_largest_of_the_open_windows_counts() -> None:
    both = Scaling(1, None, tuple(map(ScheduleWindow.parse, (OFFICE, "daily 10:00-11:00 = 6"))))
    assert wanted(both, 1, [], at("2026-11-02T10:30")).replicas == 6
    assert wanted(both, 1, [], at("2026-11-02T11:30")).replicas == 4


def test_a_schedule_raises_the_minimum_and_the_load_goes_above() -> None:
    scaling = Scaling(0, 8, (ScheduleWindow.parse(OFFICE),))
    assert wanted(scaling, 1, looks((5000, 0))) == Target(4, f"the schedule says so ({OFFICE})")
    assert wanted(scaling, 4, looks((400, 50))).replicas == 7
    night = at("2026-11-02T22:00")
    assert wanted(scaling, 4, looks((5000, 0), end=night), night).replicas == 0


# --- what is ordered ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scaling",
    [
        Scaling(3, 2),
        Scaling(0, 0),
        Scaling(0),
        Scaling(1, 3, (ScheduleWindow.parse(OFFICE),)),
        Scaling(1, None, requests_per_replica=4),
    ],
)
def test_figures_that_contradict_one_another_are_refused(scaling: Scaling) -> None:
    with pytest.raises(ArbiterError) as refused:
        scaling.checked()
    assert refused.value.hint


def test_a_replica_is_given_what_was_asked_or_seven_tenths_of_what_it_can() -> None:
    assert Scaling(1, 2).per_replica(64) == pytest.approx(44.8)
    assert Scaling(1, 2, requests_per_replica=5).per_replica(64) == 5
    assert Scaling(1, 2).per_replica(1) == 1
