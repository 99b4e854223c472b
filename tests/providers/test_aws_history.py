"""AWS's spot prices of the past: what held from when to when, and how they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import RECORDINGS, Answer, LoopbackServer
from stand_in_aws import StandInAws, refusal

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, MissingCredentials, ProviderError
from arbiter.money import Price
from arbiter.provider import (
    Fetched,
    HistoryProvider,
    Page,
    ParsedHistory,
    PastPrice,
    ProviderSettings,
)
from arbiter.testing import FakeClock
from arbiter_providers.aws import Aws
from arbiter_providers.aws_account import Account
from arbiter_providers.aws_history import fetch

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=30)
REGION = "eu-central-1"
ZONES = {
    "AvailabilityZones": [{"ZoneName": f"{REGION}{z}", "ZoneId": f"euc1-az-{z}"} for z in "abc"]
}


MACHINES = json.loads((RECORDINGS / "aws" / "instance-types.json").read_bytes())


def row(price: str, at: datetime, zone: str = "a", kind: str = "g6.xlarge") -> dict[str, Any]:
    return {
        "AvailabilityZone": f"{REGION}{zone}",
        "InstanceType": kind,
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": price,
        "Timestamp": at,
    }


def day(number: int) -> datetime:
    return datetime(2026, 10, 1, tzinfo=UTC) + timedelta(days=number)


def parse(*rows: Any, zones: Any = ZONES, now: datetime = NOW) -> ParsedHistory:
    history = Page("spot-price-history", REGION, {"SpotPriceHistory": list(rows), "NextToken": ""})
    pages = (Page("availability-zones", REGION, zones), history)
    return Aws(ProviderSettings()).parse_history(Fetched(pages), now)


def stretches(
    prices: Sequence[PastPrice],
) -> list[tuple[str | None, str, datetime, datetime | None]]:
    found = [(p.offer.zone, str(p.offer.price), p.valid_from, p.valid_to) for p in prices]
    return sorted(found, key=lambda one: (one[0] or "", one[2]))


def test_aws_tells_its_past() -> None:
    assert isinstance(Aws(ProviderSettings()), HistoryProvider)


def test_a_price_holds_until_the_next_change_of_its_zone() -> None:
    parsed = parse(row("0.50", day(9)), row("0.40", day(5), "b"), row("0.30", day(2)))
    assert stretches(parsed.prices) == [
        ("euc1-az-a", "0.3 USD", day(2), day(9)),
        ("euc1-az-a", "0.5 USD", day(9), None),
        ("euc1-az-b", "0.4 USD", day(5), None),
    ]
    offer = parsed.prices[0].offer
    assert (offer.region, offer.instance_type, offer.gpu, offer.purchase) == (
        REGION,
        "g6.xlarge",
        "L4",
        Purchase.SPOT,
    )


def test_a_row_that_repeats_the_price_before_it_makes_no_new_stretch() -> None:
    parsed = parse(row("0.30", day(2)), row("0.30", day(4)), row("0.50", day(6)))
    assert stretches(parsed.prices) == [
        ("euc1-az-a", "0.3 USD", day(2), day(6)),
        ("euc1-az-a", "0.5 USD", day(6), None),
    ]


def test_of_two_prices_at_one_instant_the_higher_counts() -> None:
    parsed = parse(row("0.30", day(2)), row("0.40", day(2)))
    assert stretches(parsed.prices) == [("euc1-az-a", "0.4 USD", day(2), None)]


def test_the_price_carried_in_may_be_as_old_as_it_likes() -> None:
    old = datetime(2024, 1, 1, tzinfo=UTC)
    assert stretches(parse(row("0.30", old)).prices) == [("euc1-az-a", "0.3 USD", old, None)]


def test_types_do_not_mix() -> None:
    parsed = parse(row("0.30", day(2)), row("9.00", day(3), kind="p4de.24xlarge"))
    assert [p.valid_to for p in parsed.prices] == [None, None]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (row("0.00001", day(1)), "price is below 0.001 an hour"),
        (row("N/A", day(1)), "price is not a number"),
        ({**row("0.3", day(1)), "Timestamp": None}, "row without Timestamp"),
        ({**row("0.3", day(1)), "InstanceType": ""}, "row without InstanceType"),
        (17, "row of the wrong shape"),
    ],
)
def test_a_malformed_row_is_counted_and_harms_no_other(wrong: Any, reason: str) -> None:
    parsed = parse(wrong, row("0.30", day(2)))
    assert len(parsed.prices) == 1
    (skip,) = parsed.skips
    assert skip.malformed
    assert skip.reason.startswith(reason)


def test_a_zone_without_a_stable_id_is_left_out() -> None:
    parsed = parse(row("0.30", day(2), "z"))
    assert not parsed.prices
    assert [skip.reason for skip in parsed.skips] == ["zone without a stable id"]


def test_what_is_not_a_page_of_it_is_a_bad_answer() -> None:
    for body in (b"<html>", None, {"SpotPriceHistory": 17}, b"[]"):
        with pytest.raises(BadAnswer):
            Aws(ProviderSettings()).parse_history(
                Fetched((Page("spot-price-history", REGION, body),)), NOW
            )


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from("ab"), st.integers(1, 4)),
        unique_by=lambda one: one[:2],
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_stretches_are_the_step_function_of_the_rows(
    told: list[tuple[int, str, int]], random: Any
) -> None:
    """At any instant the stretch that holds has the price of the last row before, in any order."""
    rows = [row(f"0.{price}", day(number), zone) for number, zone, price in told]
    random.shuffle(rows)
    parsed = parse(*rows)
    for zone in "ab":
        for number in range(31):
            at = day(number) + timedelta(hours=1)
            before = [one for one in told if one[1] == zone and one[0] <= number]
            expected = [Price.of(f"0.{max(before)[2]}")] if before else []
            held = [
                one.offer.price
                for one in parsed.prices
                if one.offer.zone == f"euc1-az-{zone}"
                and one.valid_from <= at
                and (one.valid_to is None or at < one.valid_to)
            ]
            assert held == expected


@pytest.mark.parametrize(
    ("file", "region", "kind", "zones"),
    [
        ("eu-central-1_p3.8xlarge", "eu-central-1", "p3.8xlarge", 2),
        ("eu-west-1_p3.2xlarge", "eu-west-1", "p3.2xlarge", 3),
        ("eu-north-1_p3.2xlarge", "eu-north-1", "p3.2xlarge", 0),
    ],
)
def test_the_winter_of_2019(
    shared_recordings: Path, file: str, region: str, kind: str, zones: int
) -> None:
    name = f"describe_spot_price_history_{file}_2019-12_2020-02.json"
    body = json.loads((shared_recordings / "aws" / name).read_bytes())
    names = {one["AvailabilityZone"] for one in body["SpotPriceHistory"]}
    mapped = {"AvailabilityZones": [{"ZoneName": one, "ZoneId": f"id-{one}"} for one in names]}
    pages = (Page("availability-zones", region, mapped), Page("spot-price-history", region, body))
    parsed = Aws(ProviderSettings()).parse_history(Fetched(pages), datetime(2020, 3, 1, tzinfo=UTC))
    assert not parsed.skips
    assert {one.offer.zone for one in parsed.prices} == {f"id-{one}" for one in names}
    assert len(names) == zones
    assert {one.offer.instance_type for one in parsed.prices} <= {kind}
    open_ends = [one for one in parsed.prices if one.valid_to is None]
    assert len(open_ends) == zones
    newest = {
        one["AvailabilityZone"]: one["SpotPrice"] for one in reversed(body["SpotPriceHistory"])
    }
    assert {one.offer.zone: one.offer.price for one in open_ends} == {
        f"id-{zone}": Price.of(price) for zone, price in newest.items()
    }


def test_the_rows_of_other_systems_are_left_out(shared_recordings: Path) -> None:
    name = "describe_spot_price_history_us-east-1_g4dn.xlarge_2021-03_2021-05_all_os.json"
    body = json.loads((shared_recordings / "aws" / name).read_bytes())
    names = {one["AvailabilityZone"] for one in body["SpotPriceHistory"]}
    mapped = {"AvailabilityZones": [{"ZoneName": one, "ZoneId": f"id-{one}"} for one in names]}
    pages = (Page("availability-zones", REGION, mapped), Page("spot-price-history", REGION, body))
    parsed = Aws(ProviderSettings()).parse_history(Fetched(pages), NOW)
    assert parsed.prices
    assert {skip.reason for skip in parsed.skips} == {"not Linux"}


# --- asking ---------------------------------------------------------------------------------


class StubbedSession:
    """A session whose only client is a botocore stub."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def client(self, *_: Any, **__: Any) -> Any:
        return self.made


@pytest.fixture
def stubbed(aws_account: None) -> Iterator[tuple[Any, Any]]:
    import boto3
    from botocore.stub import Stubber

    client = boto3.Session().client("ec2", region_name=REGION)
    with Stubber(client) as stubber:
        yield client, stubber


def answers(stubber: Any, *pages: tuple[list[dict[str, Any]], str | None]) -> None:
    """What the stub answers, each page asked for with the token of the one before."""
    from botocore.stub import ANY

    stubber.add_response("describe_instance_types", MACHINES)
    token = None
    for rows, following in pages:
        asked: dict[str, Any] = {
            "StartTime": SINCE,
            "EndTime": NOW,
            "InstanceTypes": ANY,
            "ProductDescriptions": ["Linux/UNIX"],
            "MaxResults": 1000,
        }
        body: dict[str, Any] = {"SpotPriceHistory": rows}
        if following is not None:
            body["NextToken"] = following
        stubber.add_response(
            "describe_spot_price_history", body, asked | ({"NextToken": token} if token else {})
        )
        token = following


def zones(stubber: Any) -> None:
    stubber.add_response("describe_availability_zones", ZONES, {"AllAvailabilityZones": True})


def ask(client: Any, since: datetime = SINCE) -> Fetched:
    account = Account(StubbedSession(client), ProviderSettings(), FakeClock(NOW))
    return Fetched(*fetch(account, [REGION], since, NOW, NOW, lambda _: None))


@pytest.mark.parametrize("end", ["", None])
def test_every_page_is_asked_for_until_the_token_is_empty_or_absent(
    stubbed: tuple[Any, Any], end: str | None
) -> None:
    client, stubber = stubbed
    answers(
        stubber,
        ([row("0.50", day(9))], "t1"),
        ([row("0.40", day(7))], "t2"),
        ([row("0.30", day(1))], end),
    )
    zones(stubber)
    fetched = ask(client)
    stubber.assert_no_pending_responses()
    assert fetched.degraded == ()
    prices = Aws(ProviderSettings()).parse_history(fetched, NOW).prices
    assert [str(one.offer.price) for one in prices] == ["0.3 USD", "0.4 USD", "0.5 USD"]


def test_credentials_that_expire_in_the_middle_keep_what_came(stubbed: tuple[Any, Any]) -> None:
    client, stubber = stubbed
    answers(stubber, ([row("0.50", day(9))], "t1"))
    stubber.add_client_error("describe_spot_price_history", "ExpiredToken", http_status_code=400)
    zones(stubber)
    fetched = ask(client)
    (note,) = fetched.degraded
    assert note.startswith(f"{REGION}: its older prices are missing, aws: ")
    assert "ExpiredToken" in note
    assert len(Aws(ProviderSettings()).parse_history(fetched, NOW).prices) == 1


def test_credentials_that_have_expired_bring_nothing(stubbed: tuple[Any, Any]) -> None:
    client, stubber = stubbed
    answers(stubber)
    stubber.add_client_error("describe_spot_price_history", "ExpiredToken", http_status_code=400)
    with pytest.raises(BadCredentials, match="ExpiredToken"):
        ask(client)


def test_a_token_that_returns_ends_the_pages_and_is_said(stubbed: tuple[Any, Any]) -> None:
    client, stubber = stubbed
    answers(stubber, ([row("0.50", day(9))], "t1"), ([row("0.40", day(7))], "t1"))
    zones(stubber)
    fetched = ask(client)
    assert fetched.degraded == (f"{REGION}: its older prices are missing, the pages do not end",)


def test_rows_with_stable_zones_need_no_list_of_zones(stubbed: tuple[Any, Any]) -> None:
    client, stubber = stubbed
    answers(stubber, ([row("0.50", day(9)) | {"AvailabilityZoneId": "euc1-az2"}], ""))
    (one,) = Aws(ProviderSettings()).parse_history(ask(client), NOW).prices
    assert one.offer.zone == "euc1-az2"


def test_without_the_list_of_zones_the_rest_still_counts(stubbed: tuple[Any, Any]) -> None:
    client, stubber = stubbed
    named = row("0.40", day(7), "b") | {"AvailabilityZoneId": "euc1-az3"}
    answers(stubber, ([row("0.50", day(9)), named], ""))
    stubber.add_client_error("describe_availability_zones", "UnauthorizedOperation")
    fetched = ask(client)
    (note,) = fetched.degraded
    assert note.startswith(f"{REGION}: past prices without stable zones, aws: ")
    (one,) = Aws(ProviderSettings()).parse_history(fetched, NOW).prices
    assert one.offer.zone == "euc1-az3"


def test_more_than_90_days_are_not_asked_for(server: LoopbackServer, aws_account: None) -> None:
    stand_in = StandInAws(server)
    stand_in.reply("DescribeInstanceTypes", MACHINES["InstanceTypes"])
    aws = Aws(
        ProviderSettings(endpoint=server.url, regions=(REGION,), max_attempts=1),
        clock=FakeClock(NOW),
    )
    aws.fetch_history(NOW - timedelta(days=400), NOW - timedelta(days=1), lambda _: None)
    ((_, form),) = stand_in.asked("DescribeSpotPriceHistory")
    assert form["StartTime"].startswith("2026-08-12T12:00:00")
    assert form["EndTime"].startswith("2026-11-09T12:00:00")
    kinds = {value for name, value in form.items() if name.startswith("InstanceType.")}
    assert "g6.xlarge" in kinds
    assert "m5.large" not in kinds


def test_a_region_that_refuses_leaves_the_others(server: LoopbackServer, aws_account: None) -> None:
    stand_in = StandInAws(server)
    rows = [{**row("0.5", day(1)), "Timestamp": day(1).isoformat(), "AvailabilityZoneId": "z1"}]
    stand_in.reply("DescribeSpotPriceHistory", rows)
    stand_in.reply("DescribeInstanceTypes", MACHINES["InstanceTypes"])
    stand_in.reply("DescribeInstanceTypes", refusal("AuthFailure"), "eu-south-1")
    settings = ProviderSettings(
        endpoint=server.url, regions=(REGION, "eu-south-1"), max_attempts=1, timeout_s=5.0
    )
    aws = Aws(settings, clock=FakeClock(NOW))
    fetched = aws.fetch_history(SINCE, NOW, lambda _: None)
    assert [note.partition(":")[0] for note in fetched.degraded] == ["eu-south-1"]
    assert {one.offer.region for one in aws.parse_history(fetched, NOW).prices} == {REGION}


@pytest.mark.usefixtures("no_aws_account")
def test_without_an_account_one_sentence_says_so() -> None:
    with pytest.raises(MissingCredentials, match="aws: past spot prices are told to accounts only"):
        Aws(ProviderSettings()).fetch_history(SINCE, NOW, lambda _: None)


def test_a_server_that_is_down_is_an_error(server: LoopbackServer, aws_account: None) -> None:
    server.answer = lambda _: Answer(status=503)
    settings = ProviderSettings(endpoint=server.url, regions=(REGION,), max_attempts=1)
    with pytest.raises(ProviderError):
        Aws(settings, clock=FakeClock(NOW)).fetch_history(SINCE, NOW, lambda _: None)
