"""AWS: how an account and the public feeds are asked, and what is said when they refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from loopback import RECORDINGS, Answer, LoopbackServer, Request
from stand_in_aws import StandInAws, refusal

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, MissingCredentials, Unreachable
from arbiter.provider import Fetched, Parsed, ProviderSettings
from arbiter.testing import NOWHERE, FakeClock
from arbiter_providers._regions import european_regions
from arbiter_providers.aws import Aws

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
REGION = "eu-central-1"
LIST = f"/offers/v1.0/aws/AmazonEC2/current/{REGION}/index.csv"


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / "aws" / f"{name}.json").read_bytes())


def provider(endpoint: str | None, *regions: str, attempts: int = 1, **options: Any) -> Aws:
    settings = ProviderSettings(
        endpoint=endpoint,
        regions=regions or (REGION,),
        timeout_s=5.0,
        max_attempts=attempts,
        options=options,
    )
    return Aws(settings, clock=FakeClock(NOW))


def poll(aws: Aws) -> tuple[Fetched, Parsed]:
    fetched = aws.fetch(lambda _: None)
    return fetched, aws.parse(fetched, NOW)


def sold(parsed: Parsed, purchase: Purchase) -> set[tuple[str, str | None, str]]:
    return {
        (offer.region, offer.zone, offer.instance_type)
        for offer in parsed.offers
        if offer.purchase is purchase
    }


@pytest.fixture
def aws(server: LoopbackServer, aws_account: None) -> StandInAws:
    stand_in = StandInAws(server)
    stand_in.reply("DescribeInstanceTypes", recorded("instance-types")["InstanceTypes"])
    stand_in.reply("DescribeAvailabilityZones", recorded("availability-zones")["AvailabilityZones"])
    stand_in.reply("DescribeSpotPriceHistory", recorded("spot-price-history")["SpotPriceHistory"])
    stand_in.reply("GetProducts", recorded("products")["PriceList"])
    return stand_in


# With an account


def test_an_account_brings_spot_and_on_demand(server: LoopbackServer, aws: StandInAws) -> None:
    fetched, parsed = poll(provider(server.url))
    assert fetched.degraded == ()
    assert (REGION, "euc1-az3", "g6.xlarge") in sold(parsed, Purchase.SPOT)
    assert (REGION, None, "p4d.24xlarge") in sold(parsed, Purchase.ON_DEMAND)
    assert parsed.covered == {(REGION, Purchase.SPOT), (REGION, Purchase.ON_DEMAND)}
    assert not [skip for skip in parsed.skips if skip.malformed]


def test_the_spot_price_of_now_is_asked_for_and_of_gpus_only(
    server: LoopbackServer, aws: StandInAws
) -> None:
    poll(provider(server.url))
    ((_, form),) = aws.asked("DescribeSpotPriceHistory")
    assert form["StartTime"] == form["EndTime"]
    assert form["StartTime"].startswith("2026-11-10T12:00:00")
    assert form["ProductDescription.1"] == "Linux/UNIX"
    assert form["InstanceType.1"] == "g6.xlarge"


def test_on_demand_is_asked_for_gpus_only(server: LoopbackServer, aws: StandInAws) -> None:
    poll(provider(server.url))
    for _, form in aws.asked("GetProducts"):
        filters: list[dict[str, str]] = form["Filters"]  # type: ignore[assignment]
        (types,) = [f for f in filters if f["Field"] == "instanceType"]
        assert types["Type"] == "ANY_OF"
        assert len(types["Value"]) <= 1024
        assert {f["Field"]: f["Value"] for f in filters}["capacitystatus"] == "Used"


def test_zones_are_asked_for_only_where_a_row_lacks_its_id(
    server: LoopbackServer, aws: StandInAws
) -> None:
    rows = [
        r for r in recorded("spot-price-history")["SpotPriceHistory"] if "AvailabilityZoneId" in r
    ]
    aws.reply("DescribeSpotPriceHistory", rows)
    poll(provider(server.url))
    assert aws.asked("DescribeAvailabilityZones") == []


def test_every_page_is_read_until_the_empty_token(server: LoopbackServer, aws: StandInAws) -> None:
    rows = recorded("spot-price-history")["SpotPriceHistory"]

    def paged(form: Mapping[str, str]) -> tuple[list[dict[str, Any]], str]:
        return (rows[:4], "two") if "NextToken" not in form else (rows[4:], "")

    whole = poll(provider(server.url))[1]
    aws.reply("DescribeSpotPriceHistory", paged)
    assert set(poll(provider(server.url))[1].offers) == set(whole.offers)


def test_a_token_that_comes_back_ends_and_covers_nothing(
    server: LoopbackServer, aws: StandInAws
) -> None:
    rows = recorded("spot-price-history")["SpotPriceHistory"]
    aws.reply("DescribeSpotPriceHistory", lambda _: (rows, "again"))
    _, parsed = poll(provider(server.url))
    assert (REGION, Purchase.SPOT) not in parsed.covered
    assert len(aws.asked("DescribeSpotPriceHistory")) == 2


def test_a_region_that_is_not_enabled_leaves_the_others_unharmed(
    server: LoopbackServer, aws: StandInAws
) -> None:
    for action in ("DescribeInstanceTypes", "DescribeSpotPriceHistory"):
        aws.reply(action, refusal("AuthFailure", 401), region="eu-south-1")
    fetched, parsed = poll(provider(server.url, REGION, "eu-south-1"))
    assert fetched.degraded == ("eu-south-1: not enabled on the account (AuthFailure)",)
    assert {region for region, _ in parsed.covered} == {REGION}
    assert sold(parsed, Purchase.SPOT)


def test_credentials_refused_everywhere_are_bad_credentials(
    server: LoopbackServer, aws: StandInAws
) -> None:
    for action in ("DescribeInstanceTypes", "DescribeSpotPriceHistory"):
        aws.reply(action, refusal("AuthFailure", 401))
    with pytest.raises(BadCredentials, match="AuthFailure") as caught:
        poll(provider(server.url, REGION, "eu-west-1"))
    assert "eve" not in str(caught.value)


def test_types_that_may_not_be_described_come_from_the_table(
    server: LoopbackServer, aws: StandInAws
) -> None:
    aws.reply("DescribeInstanceTypes", refusal("UnauthorizedOperation"))
    fetched, parsed = poll(provider(server.url))
    assert [note.split(",")[0] for note in fetched.degraded] == [
        f"{REGION}: GPUs by the built-in table"
    ]
    assert (REGION, "euc1-az3", "p5.48xlarge") in sold(parsed, Purchase.SPOT)
    assert (REGION, Purchase.SPOT) not in parsed.covered


def test_on_demand_that_may_not_be_asked_leaves_spot_unharmed(
    server: LoopbackServer, aws: StandInAws
) -> None:
    denied = Answer(
        b'{"__type":"AccessDeniedException","Message":"user eve may not"}',
        400,
        {"Content-Type": "application/x-amz-json-1.1"},
    )
    aws.reply("GetProducts", denied)
    fetched, parsed = poll(provider(server.url, REGION, "eu-west-1"))
    (note,) = fetched.degraded
    assert note.startswith("on-demand prices: aws: ")
    assert "AccessDeniedException" in note
    assert "eve" not in note
    assert {purchase for _, purchase in parsed.covered} == {Purchase.SPOT}


def test_the_simulated_aws_of_skypilot_ends_in_a_report(
    server: LoopbackServer, aws: StandInAws
) -> None:
    dummy = {
        "InstanceType": "g6.xlarge",
        "ProductDescription": "Linux/UNIX (Amazon VPC)",
        "SpotPrice": "0.00001",
        "AvailabilityZone": "eu-central-1a",
        "Timestamp": "2006-01-02T15:04:05Z",
    }
    aws.reply("DescribeSpotPriceHistory", [dummy])
    aws.reply("GetProducts", Answer(b"<html>404 Not Found</html>", 404))
    fetched, parsed = poll(provider(server.url))
    assert not parsed.offers
    assert [skip.reason for skip in parsed.skips] == ["spot price older than 100 days"]
    (note,) = fetched.degraded
    assert note.startswith("on-demand prices: ")


@pytest.mark.usefixtures("aws_account")
def test_a_page_of_html_is_no_empty_answer(server: LoopbackServer) -> None:
    """botocore takes it for an answer without rows."""
    server.answer = lambda _: Answer(b"<!DOCTYPE html><html><body>back soon</body></html>")
    asked = provider(server.url)
    with pytest.raises(BadAnswer, match="answered what is not its format"):
        asked.fetch(lambda _: None)
    with pytest.raises(BadAnswer, match="answered what is not its format"):
        asked.fetch_history(NOW, NOW, lambda _: None)


def test_the_standard_variable_names_the_endpoint_too(
    server: LoopbackServer, aws: StandInAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    _, parsed = poll(provider(None))
    assert sold(parsed, Purchase.SPOT)


@pytest.mark.usefixtures("aws_account")
def test_a_dead_endpoint_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        poll(provider(NOWHERE, REGION, "eu-west-1"))


@pytest.mark.usefixtures("no_aws_account")
def test_a_profile_that_does_not_exist_is_named() -> None:
    with pytest.raises(MissingCredentials, match="nobody"):
        poll(provider(NOWHERE, profile="nobody"))


def test_a_stand_in_with_the_public_feeds_alone_serves_an_account_too(
    server: LoopbackServer, aws_account: None
) -> None:
    server.answer = public_feeds
    fetched, parsed = poll(provider(server.url))
    assert sold(parsed, Purchase.SPOT)
    assert "not its format" in fetched.degraded[0]


# Without an account


def public_feeds(request: Request) -> Answer:
    if request.method != "GET":
        return Answer(status=404)
    if request.path == "/spot.json":
        return Answer((RECORDINGS / "aws" / "spot.json").read_bytes())
    if request.path == LIST:
        if request.headers.get("if-none-match") == '"v1"':
            return Answer(status=304)
        body = (RECORDINGS / "aws" / f"price-list-{REGION}.csv").read_bytes()
        return Answer(body, headers={"ETag": '"v1"'})
    return Answer(status=404)


@pytest.mark.usefixtures("no_aws_account")
class TestWithoutAnAccount:
    def test_the_public_feeds_stand_in_and_say_so(self, server: LoopbackServer) -> None:
        server.answer = public_feeds
        fetched, parsed = poll(provider(server.url))
        assert fetched.degraded == ("no credentials: region-level public prices without age",)
        assert (REGION, None, "g6.xlarge") in sold(parsed, Purchase.SPOT)
        assert (REGION, None, "g6e.xlarge") in sold(parsed, Purchase.ON_DEMAND)
        assert {region for region, *_ in sold(parsed, Purchase.SPOT)} == {REGION}

    def test_only_rows_of_gpu_machines_are_kept(self, server: LoopbackServer) -> None:
        server.answer = public_feeds
        fetched, _ = poll(provider(server.url))
        (page,) = [page for page in fetched.pages if page.feed == "price-list"]
        kept = {row["Instance Type"] for row in page.body["rows"]}
        assert "m5.large" not in kept
        assert "g99.xlarge" in kept  # a GPU that the table does not know: it shall be reported

    def test_a_list_that_stands_is_not_downloaded_again(self, server: LoopbackServer) -> None:
        server.answer = public_feeds
        aws = provider(server.url)
        first = poll(aws)
        assert poll(aws) == first
        asked = [r.headers.get("if-none-match") for r in server.requests if r.path == LIST]
        assert asked == [None, '"v1"']

    def test_the_cache_folder_keeps_lists_between_runs(
        self, server: LoopbackServer, tmp_path: Path
    ) -> None:
        server.answer = public_feeds
        folder = tmp_path / "new" / "cache"
        first = poll(provider(server.url, cache_dir=str(folder)))
        assert poll(provider(server.url, cache_dir=str(folder))) == first
        asked = [r.headers.get("if-none-match") for r in server.requests if r.path == LIST]
        assert asked == [None, '"v1"']
        (file,) = folder.iterdir()
        file.write_text("{")
        assert poll(provider(server.url, cache_dir=str(folder))) == first

    def test_one_feed_that_fails_leaves_the_other(self, server: LoopbackServer) -> None:
        def without(path: str) -> None:
            server.answer = lambda r: Answer(status=404) if r.path == path else public_feeds(r)

        without("/spot.json")
        fetched, parsed = poll(provider(server.url))
        assert fetched.degraded[1].startswith("spot prices: aws: ")
        assert sold(parsed, Purchase.ON_DEMAND)
        without(LIST)
        fetched, parsed = poll(provider(server.url))
        assert fetched.degraded[1].startswith(f"{REGION}: on-demand, aws: ")
        assert sold(parsed, Purchase.SPOT)

    @pytest.mark.parametrize("body", [b"<html>sorry</html>", b"", b'"SKU","x"\n', b"a\n" * 99])
    def test_what_is_not_the_list_is_said_to_be_none(
        self, server: LoopbackServer, body: bytes
    ) -> None:
        server.answer = lambda r: Answer(body) if r.path == LIST else public_feeds(r)
        fetched, _ = poll(provider(server.url))
        assert "is not the CSV file it should be" in fetched.degraded[1]

    def test_a_list_that_breaks_off_is_not_taken_for_whole(self, server: LoopbackServer) -> None:
        half = (RECORDINGS / "aws" / f"price-list-{REGION}.csv").read_bytes()[:2000]
        cut = Answer(half, headers={"Content-Length": "99999"})
        server.answer = lambda r: cut if r.path == LIST else public_feeds(r)
        fetched, parsed = poll(provider(server.url))
        assert len(fetched.degraded) == 2
        assert (REGION, Purchase.ON_DEMAND) not in parsed.covered

    def test_both_feeds_failing_is_an_error(self, server: LoopbackServer) -> None:
        server.answer = lambda _: Answer(status=503)
        with pytest.raises(Unreachable, match="answered 503"):
            poll(provider(server.url))

    def test_every_european_region_is_asked_by_default(self, server: LoopbackServer) -> None:
        server.answer = public_feeds
        Aws(ProviderSettings(endpoint=server.url)).fetch(lambda _: None)
        lists = {r.path.split("/")[6] for r in server.requests if r.path.endswith("index.csv")}
        assert lists == set(european_regions("aws"))
        assert {"eu-central-1", "eu-west-2", "eu-central-2"} <= lists
        assert "us-east-1" not in lists
