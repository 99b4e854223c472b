"""Nebius: SkyPilot's catalogue of its presets, on demand and preemptible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import RECORDINGS, Answer, LoopbackServer

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, Unreachable
from arbiter.money import Price
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Provider, ProviderSettings
from arbiter.testing import FakeClock, ProviderContract
from arbiter_providers.nebius import FEED, NOTE, PATH, Nebius

NOW = datetime(2026, 11, 10, tzinfo=UTC)
FILE = RECORDINGS / "nebius" / "vms.csv"
HEADER = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice"
)


def recording() -> Fetched:
    return Fetched((Page("skypilot-catalog", "", FILE.read_bytes()),), notes=(NOTE,))


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Nebius(settings)

    def recording(self) -> Fetched:
        return recording()


def parse(fetched: Fetched, *regions: str) -> Parsed:
    return Nebius(ProviderSettings(regions=regions)).parse(fetched, NOW)


def rows(*lines: str) -> Fetched:
    body = "\r\n".join([HEADER, *lines]) + "\r\n"
    return Fetched((Page("skypilot-catalog", "", body.encode()),))


def row(
    price: str = "2.95", spot: str = "1.25", count: str = "1", region: str = "eu-north1"
) -> str:
    return f"gpu-h100-sxm_1gpu,H100,{count},16,200,{price},{region},,{spot}"


def test_prices_are_dollars_per_preset_and_preemptible_is_spot() -> None:
    parsed = parse(recording())
    assert {
        (one.region, one.instance_type.partition("_")[0], one.gpu, one.gpu_count, one.purchase): (
            one.price
        )
        for one in parsed.offers
    } == {
        ("eu-north1", "gpu-h100-sxm", "H100", 1, Purchase.ON_DEMAND): Price.of("2.95"),
        ("eu-north1", "gpu-h100-sxm", "H100", 1, Purchase.SPOT): Price.of("1.25"),
        ("eu-west1", "gpu-h200-sxm", "H200", 8, Purchase.ON_DEMAND): Price.of("28"),
        ("eu-west1", "gpu-h200-sxm", "H200", 8, Purchase.SPOT): Price.of("11.6"),
        ("eu-north1", "gpu-l40s-a", "L40S", 1, Purchase.ON_DEMAND): Price.of("1.5484"),
        ("eu-west2", "gpu-rtx6000", "RTXPRO6000", 1, Purchase.ON_DEMAND): Price.of("1.80"),
        ("uk-south1", "gpu-gb300", "GB300", 4, Purchase.ON_DEMAND): Price.of("30"),
    }


def test_a_preemptible_price_of_0_is_no_price() -> None:
    assert Counter((skip.reason, skip.malformed) for skip in parse(recording()).skips) == {
        ("not offered as preemptible", False): 3,
        ("not a GPU machine", False): 1,
        ("region that was not asked for", False): 1,
    }


def test_a_region_that_is_asked_for_comes_wherever_it_is() -> None:
    parsed = parse(recording(), "us-central1")
    assert {one.region for one in parsed.offers} == {"us-central1"}
    assert parsed.covered == {("us-central1", Purchase.SPOT), ("us-central1", Purchase.ON_DEMAND)}


def test_the_prices_say_that_their_age_is_not_known() -> None:
    assert all(one.priced_at is None for one in parse(recording()).offers)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row(price="0"), "price is 0"),
        (row(price="free"), "price is not a number"),
        (row(price=""), "price is not a number"),
        (row(spot="cheap"), "price is not a number"),
        (row(count="1.5"), "number of GPUs is not a number"),
        (row(count="many"), "number of GPUs is not a number"),
        (row(count="NaN"), "number of GPUs is not a number"),
        (row(region=""), "row without Region or InstanceType"),
    ],
)
def test_a_malformed_row_is_counted_and_harms_no_other(line: str, reason: str) -> None:
    sound = "gpu-l40s,L40S,1.0,8,32,1.5,eu-north1,,"
    parsed = parse(rows(line, sound))
    assert "gpu-l40s" in {one.instance_type for one in parsed.offers}
    assert [skip.reason for skip in parsed.skips if skip.malformed] == [reason]


@pytest.mark.parametrize(
    "body",
    [
        HEADER.encode(),
        f"{HEADER}\r\n{row()}".encode(),
        f"{HEADER}\r\n{row()[:20]}\r\n".encode(),
        f'{HEADER}\r\n"{row()}\r\n'.encode(),
        b"InstanceType,Price\r\n",
        b"\n",
        b"\xff\xfe\n",
    ],
)
def test_a_file_that_breaks_off_or_is_another_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer, match="nebius: "):
        parse(Fetched((Page("skypilot-catalog", "", body),)))


def test_a_page_of_html_is_told_as_one() -> None:
    with pytest.raises(BadAnswer, match="not CSV but HTML"):
        parse(Fetched((Page(FEED, "", b"<!DOCTYPE html><html>down</html>\n"),)))


@given(st.integers(min_value=0, max_value=len(FILE.read_bytes()) - 3))
def test_a_file_that_is_cut_anywhere_never_gives_another_price(cut: int) -> None:
    whole = {(one.region, one.instance_type, one.purchase, one.price) for one in offers()}
    try:
        parsed = parse(Fetched((Page("skypilot-catalog", "", FILE.read_bytes()[:cut]),)))
    except BadAnswer:
        return
    part = {(one.region, one.instance_type, one.purchase, one.price) for one in parsed.offers}
    assert part <= whole


def offers() -> Sequence[PricedOffer]:
    return parse(recording()).offers


def test_the_catalogue_of_2026(shared_recordings: Path) -> None:
    body = (shared_recordings.parent / "catalog" / "nebius" / "vms.csv").read_bytes()
    parsed = parse(Fetched((Page("skypilot-catalog", "", body),)))
    assert len(parsed.offers) == 17
    assert not [skip for skip in parsed.skips if skip.malformed]


# --- asking ---------------------------------------------------------------------------------


def fetch(endpoint: str, attempts: int = 1) -> Fetched:
    settings = ProviderSettings(endpoint=endpoint, timeout_s=5.0, max_attempts=attempts)
    return Nebius(settings, clock=FakeClock()).fetch(lambda _: None)


def test_the_file_is_asked_for_and_its_age_is_remarked(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(FILE.read_bytes())
    assert fetch(server.url) == recording()
    assert fetch(f"{server.url}/mirror/nebius.csv") == recording()
    assert [request.path for request in server.requests] == [PATH, "/mirror/nebius.csv"]


def test_a_server_that_is_down_is_asked_again_and_then_an_error(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(status=503)
    with pytest.raises(Unreachable, match="answered 503"):
        fetch(server.url, attempts=3)
    assert len(server.requests) == 3
