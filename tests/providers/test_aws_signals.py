"""AWS's signals: the advisor's bands and the placement scores; neither disturbs the prices."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loopback import RECORDINGS, Answer, LoopbackServer, Request
from stand_in_aws import StandInAws, refusal

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.gpus import GPUS
from arbiter.provider import Fetched, Page, Parsed, ProviderSettings, Signal
from arbiter.testing import FakeClock
from arbiter_providers._bands import bounds
from arbiter_providers.aws import Aws
from arbiter_providers.aws_signals import EVERY, groups
from arbiter_providers.aws_types import TYPES

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
REGION = "eu-central-1"
L4 = (
    "g6.16xlarge",
    "g6.2xlarge",
    "g6.4xlarge",
    "g6.8xlarge",
    "g6.xlarge",
    "gr6.4xlarge",
    "gr6.8xlarge",
)


def recorded(name: str) -> bytes:
    return (RECORDINGS / "aws" / name).read_bytes()


def advisor(body: bytes | None = None) -> Page:
    return Page("spot-advisor", "", recorded("spot-advisor-data.json") if body is None else body)


def scores(*rows: Any, types: tuple[str, ...] = L4, token: str = "") -> Page:
    body = {"InstanceTypes": list(types), "SpotPlacementScores": list(rows), "NextToken": token}
    return Page("spot-placement-scores", "", body)


def parse(*pages: Page, regions: tuple[str, ...] = ()) -> Parsed:
    return Aws(ProviderSettings(regions=regions)).parse(Fetched(pages), NOW)


def told(parsed: Parsed) -> dict[tuple[str, str], Signal]:
    return {(signal.region, signal.instance_type): signal for signal in parsed.signals}


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "low", "high"),
    [
        ("<5%", None, 5),
        ("5-10%", 5, 10),
        (">20%", 20, None),
        ("20+", 20, None),
        ("0-5", 0, 5),
        ("10-5%", None, None),
        ("Low", None, None),
        ("", None, None),
        ("7", None, None),
    ],
)
def test_the_bounds_of_a_band(label: str, low: int | None, high: int | None) -> None:
    assert bounds(label) == (
        None if low is None else Decimal(low),
        None if high is None else Decimal(high),
    )


def test_a_band_is_read_for_linux_gpu_machines_of_our_regions() -> None:
    parsed = parse(advisor())
    assert {key: (s.low, s.high, s.text) for key, s in told(parsed).items()} == {
        (REGION, "g6.xlarge"): (Decimal(10), Decimal(15), "10-15%"),
        (REGION, "g6e.xlarge"): (Decimal(20), None, ">20%"),
        (REGION, "p4de.24xlarge"): (None, Decimal(5), "<5%"),
        (REGION, "g5g.xlarge"): (Decimal(15), Decimal(20), "15-20%"),
    }
    assert {(s.kind, s.unit, s.zone, s.purchase) for s in parsed.signals} == {
        ("interruption_band", "percent of instances reclaimed in 30 days", None, Purchase.SPOT)
    }
    assert parsed.signal_kinds == {"interruption_band"}
    assert not parsed.offers
    assert not parsed.covered


def test_a_region_that_is_asked_for_has_its_bands() -> None:
    assert set(told(parse(advisor(), regions=("us-east-1",)))) == {("us-east-1", "g6.xlarge")}


@pytest.mark.parametrize("wrong", [{"s": 64}, {"r": 9}, {"r": "2"}, 17, None])
def test_malformed_advice_is_counted_and_harms_no_other(wrong: Any) -> None:
    body = json.loads(recorded("spot-advisor-data.json"))
    body["spot_advisor"][REGION]["Linux"]["g6.xlarge"] = wrong
    parsed = parse(advisor(json.dumps(body).encode()))
    assert len(parsed.signals) == 3
    assert [skip.malformed for skip in parsed.skips] == [True]


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"[]", b"{}", b'{"ranges": [], "spot_advisor": 1}']
)
def test_another_file_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer, match="aws: the spot advisor's file"):
        parse(advisor(body))


def test_types_are_scored_at_least_three_at_a_time() -> None:
    assert L4 in groups()
    for types in groups():
        assert len(types) >= 3
        (gpu,) = {TYPES[one] for one in types}
        assert gpu[0] in GPUS
    assert len(groups()) <= 8


def test_a_score_is_that_of_all_its_types_and_says_so() -> None:
    parsed = parse(scores({"Region": REGION, "Score": 7}, {"Region": "us-east-1", "Score": 9}))
    assert {signal.instance_type for signal in parsed.signals} == set(L4)
    assert {(s.region, s.low, s.high, s.unit) for s in parsed.signals} == {
        (REGION, Decimal(7), Decimal(7), "1..10")
    }
    assert {s.text for s in parsed.signals} == {f"any of {', '.join(L4)}"}


def test_a_place_that_is_not_in_the_answer_is_not_scored_0() -> None:
    parsed = parse(*(scores(types=types) for types in groups()))
    assert parsed.signals == []
    assert parsed.signal_kinds == {"placement_score"}


def test_the_scores_are_complete_when_every_question_was_answered_to_the_end() -> None:
    assert parse(scores()).signal_kinds == frozenset()
    pages = [scores(types=types) for types in groups()]
    assert parse(*pages[1:], scores(types=groups()[0], token="more")).signal_kinds == frozenset()


@pytest.mark.parametrize("score", [0, 11, -1, "7", None, 7.5])
def test_a_score_that_cannot_be_is_counted(score: Any) -> None:
    parsed = parse(scores({"Region": REGION, "Score": score}))
    assert parsed.signals == []
    assert [skip.malformed for skip in parsed.skips] == [True]


@pytest.mark.parametrize("body", [b"", None, {}, {"InstanceTypes": 1, "SpotPlacementScores": []}])
def test_scores_of_another_shape_are_a_bad_answer(body: Any) -> None:
    with pytest.raises(BadAnswer, match="aws: spot placement scores"):
        parse(Page("spot-placement-scores", "", body))


def test_the_advisor_of_july_2025(shared_recordings: Path) -> None:
    body = (shared_recordings / "aws" / "spot_advisor_data_2025-07.json").read_bytes()
    parsed = parse(advisor(body), regions=("eu-north-1", "eu-central-1"))
    found = told(parsed)
    assert (found["eu-north-1", "g6.xlarge"].text, found["eu-north-1", "p5.48xlarge"].text) == (
        "5-10%",
        "<5%",
    )
    assert found["eu-central-1", "p4d.24xlarge"].low == Decimal(20)
    counted = Counter(signal.region for signal in parsed.signals)
    assert counted["eu-north-1"] == 34
    assert not parsed.skips


# --- asking ---------------------------------------------------------------------------------


class World:
    """AWS on loopback, an advisor beside it, a clock, and one provider that lives on."""

    def __init__(self, server: LoopbackServer, **options: Any) -> None:
        self.server = server
        self.clock = FakeClock(NOW)
        self.stand_in = StandInAws(server)
        self.advisor: Callable[[], Answer] = lambda: Answer(recorded("spot-advisor-data.json"))
        calls = server.answer
        server.answer = lambda r: self.advisor() if self.is_advisor(r) else calls(r)
        for action, name, key in (
            ("DescribeInstanceTypes", "instance-types", "InstanceTypes"),
            ("DescribeAvailabilityZones", "availability-zones", "AvailabilityZones"),
            ("DescribeSpotPriceHistory", "spot-price-history", "SpotPriceHistory"),
            ("GetProducts", "products", "PriceList"),
        ):
            self.stand_in.reply(action, json.loads(recorded(f"{name}.json"))[key])
        settings = ProviderSettings(
            endpoint=server.url, regions=(REGION,), timeout_s=5.0, max_attempts=3, options=options
        )
        self.aws = Aws(settings, clock=self.clock)

    @staticmethod
    def is_advisor(request: Request) -> bool:
        return request.path == "/spot-advisor-data.json"

    def poll(self) -> tuple[Fetched, Parsed]:
        fetched = self.aws.fetch(lambda _: None)
        return fetched, self.aws.parse(fetched, self.clock.now())

    def asked(self) -> tuple[int, int]:
        """How often the advisor and the scores were asked for."""
        advisor = sum(self.is_advisor(request) for request in self.server.requests)
        return advisor, len(self.stand_in.asked("GetSpotPlacementScores"))


@pytest.fixture
def world(server: LoopbackServer, aws_account: None) -> World:
    return World(server)


def scored(form: Any) -> list[dict[str, Any]]:
    return [{"region": REGION, "score": 3}]


def test_one_poll_brings_prices_bands_and_scores(world: World) -> None:
    world.stand_in.reply("GetSpotPlacementScores", scored)
    fetched, parsed = world.poll()
    assert fetched.degraded == ()
    assert parsed.offers
    assert parsed.signal_kinds == {"interruption_band", "placement_score"}
    assert {s.low for s in parsed.signals if s.kind == "placement_score"} == {Decimal(3)}
    (_, form), *_ = world.stand_in.asked("GetSpotPlacementScores")
    assert form["RegionName.1"] == REGION
    assert form["TargetCapacityUnitType"] == "units"
    assert "InstanceType.3" in form
    assert world.asked() == (1, len(groups()))


def test_they_are_asked_for_at_their_own_pace(world: World) -> None:
    world.stand_in.reply("GetSpotPlacementScores", scored)
    world.poll()
    world.clock.advance(300)
    fetched, parsed = world.poll()
    assert parsed.offers
    assert (fetched.degraded, parsed.signals, parsed.signal_kinds) == ((), [], frozenset())
    assert world.asked() == (1, len(groups()))
    world.clock.advance(EVERY.total_seconds())
    assert world.poll()[1].signal_kinds == {"interruption_band", "placement_score"}
    assert world.asked() == (2, 2 * len(groups()))


def test_a_failure_is_said_at_every_poll_and_tried_again_soon(world: World) -> None:
    world.advisor = lambda: Answer(status=500)
    fetched, parsed = world.poll()
    assert parsed.offers
    (note,) = fetched.degraded
    assert note.startswith("spot advisor: aws: ")
    assert world.asked()[0] == 1  # one try, though prices may have three
    assert world.poll()[0].degraded == (note,)
    assert world.asked()[0] == 1
    world.advisor = lambda: Answer(recorded("spot-advisor-data.json"))
    world.clock.advance(timedelta(minutes=31).total_seconds())
    fetched, parsed = world.poll()
    assert fetched.degraded == ()
    assert "interruption_band" in parsed.signal_kinds


@pytest.mark.parametrize("body", [b"<html>", b"{}", b""])
def test_a_file_that_is_none_does_not_reach_the_prices(world: World, body: bytes) -> None:
    world.advisor = lambda: Answer(body)
    fetched, parsed = world.poll()
    assert parsed.offers
    assert [note.split(":")[0] for note in fetched.degraded] == ["spot advisor"]


def test_scores_that_are_refused_are_said_and_asked_for_once(world: World) -> None:
    world.stand_in.reply("GetSpotPlacementScores", refusal("UnauthorizedOperation"))
    fetched, parsed = world.poll()
    assert parsed.offers
    (note,) = fetched.degraded
    assert note.startswith("spot placement scores: aws: get_spot_placement_scores")
    assert "UnauthorizedOperation" in note
    assert "eve" not in note
    assert world.asked()[1] == 1


def test_scores_limited_in_the_middle_keep_what_came(world: World) -> None:
    def tired(_form: Any) -> Any:
        late = world.asked()[1] > 1
        return refusal("RequestLimitExceeded", 503) if late else scored(_form)

    world.stand_in.reply("GetSpotPlacementScores", tired)
    fetched, parsed = world.poll()
    assert len(fetched.degraded) == 1
    assert {signal.kind for signal in parsed.signals} == {"interruption_band", "placement_score"}
    assert parsed.signal_kinds == {"interruption_band"}


def test_a_stand_in_need_not_have_either(server: LoopbackServer, aws_account: None) -> None:
    world = World(server)
    world.advisor = lambda: Answer(status=404)
    world.stand_in.reply("GetSpotPlacementScores", refusal("InvalidAction", 400))
    fetched, parsed = world.poll()
    assert (fetched.degraded, parsed.signals) == ((), [])


def test_they_can_be_switched_off(server: LoopbackServer, aws_account: None) -> None:
    world = World(server, signals="false")
    assert world.poll()[1].signals == []
    assert world.asked() == (0, 0)


def test_without_an_account_there_are_bands_only(
    server: LoopbackServer, no_aws_account: None
) -> None:
    world = World(server)
    calls = server.answer
    server.answer = lambda r: Answer(recorded("spot.json")) if r.path == "/spot.json" else calls(r)
    _, parsed = world.poll()
    assert parsed.signal_kinds == {"interruption_band"}
    assert world.asked() == (1, 0)
