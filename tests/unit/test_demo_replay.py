"""The replay: market seconds on the present, quotes that are fresh, and replicas taken away."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launch_specs import a_spec

from arbiter.demo.market import Market
from arbiter.demo.reclaims import Reclaims
from arbiter.demo.replay import Replay, ReplayProvider
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, NoCapacity
from arbiter.executors.base import LaunchSpec, Phase
from arbiter.executors.local import LocalExecutor
from arbiter.provider import Fetched, Page, Provider
from arbiter.resources import resource_dir
from arbiter.testing import FakeClock

MARKET = Market.load(resource_dir("data") / "demo")
START = datetime(2026, 11, 20, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def spot_at(seconds: float, replay: Replay, provider: str = "azure") -> dict[str, str]:
    """Region -> spot price of the H100 machine."""
    return {
        offer.region: str(offer.price.amount)
        for offer, _ in replay.standing_at(provider, after(seconds))
        if offer.gpu == "H100-NVL" and offer.purchase is Purchase.SPOT
    }


def test_the_market_runs_at_its_own_speed_from_the_start_of_the_replay() -> None:
    replay = Replay(MARKET, START, speed=60, begin=100)
    assert replay.seconds_at(START) == 100
    assert replay.seconds_at(after(10)) == 700
    assert replay.seconds_at(after(-10)) == 100


def test_prices_change_when_the_market_says_so() -> None:
    replay = Replay(MARKET, START, speed=3600)
    assert spot_at(5.9, replay)["northeurope"] == "1.5479"
    assert spot_at(6.0, replay)["northeurope"] == "4.1793"


def test_after_its_end_the_market_begins_again() -> None:
    replay = Replay(MARKET, START, speed=3600)
    assert replay.seconds_at(after(73)) == 3600
    assert spot_at(73, replay) == spot_at(1, replay) != spot_at(71, replay)


def test_a_price_is_dated_to_the_instant_at_which_the_replay_showed_it() -> None:
    replay = Replay(MARKET, START, speed=3600)
    dated = {
        (offer.region, offer.instance_type, offer.purchase): since
        for offer, since in replay.standing_at("azure", after(10))
    }
    machine = "Standard_NC40ads_H100_v5"
    assert dated["northeurope", machine, Purchase.SPOT] == after(6)
    assert dated["northeurope", machine, Purchase.ON_DEMAND] == START


@given(
    st.lists(st.floats(0, 70), min_size=3, max_size=3).map(sorted),
    st.floats(0, MARKET.seconds - 1),
)
def test_spans_that_meet_tell_every_event_once_over_the_end_of_the_market_too(
    cuts: list[float], begin: float
) -> None:
    replay = Replay(MARKET, START, speed=3600, begin=begin)
    a, b, c = (after(cut) for cut in cuts)
    joined = replay.events_between(a, b) + replay.events_between(b, c)
    assert replay.events_between(a, c) == joined


@given(st.floats(0, 1e6), st.floats(0.1, 1e5))
def test_no_price_is_from_the_future(elapsed: float, speed: float) -> None:
    now = after(elapsed)
    for _, since in Replay(MARKET, START, speed=speed, begin=50_000).standing_at("aws", now):
        assert since <= now


@pytest.mark.parametrize(("speed", "begin"), [(0, 0), (-1, 0), (float("nan"), 0), (1, -1)])
def test_a_replay_that_cannot_run_is_refused(speed: float, begin: float) -> None:
    with pytest.raises(ValueError, match="speed above zero"):
        Replay(MARKET, START, speed=speed, begin=begin)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def provider(clock: FakeClock) -> ReplayProvider:
    return ReplayProvider("azure", Replay(MARKET, START, speed=3600), clock)


def test_it_is_a_provider_of_a_name_in_the_market(clock: FakeClock) -> None:
    replay = Replay(MARKET, START)
    for name in MARKET.providers:
        assert isinstance(ReplayProvider(name, replay, clock), Provider)
    with pytest.raises(ValueError, match="has no gcp, only aws, azure"):
        ReplayProvider("gcp", replay, clock)


def test_what_is_fetched_parses_to_the_offers_of_the_instant(
    provider: ReplayProvider, clock: FakeClock
) -> None:
    clock.advance(7)
    notes: list[str] = []
    fetched = provider.fetch(notes.append)
    parsed = provider.parse(fetched, clock.now())
    standing = Replay(MARKET, START, speed=3600).standing_at("azure", clock.now())
    assert list(parsed.offers) == [replace(offer, priced_at=since) for offer, since in standing]
    assert {offer.source for offer in parsed.offers} == {"demo:market"}
    assert parsed.covered == {(offer.region, offer.purchase) for offer in parsed.offers}
    assert parsed.skips == ()
    assert notes == ["azure, simulated market demo-2026-11"]
    assert json.loads(fetched.pages[0].body)["simulated"] is True


def test_parsing_is_pure(provider: ReplayProvider) -> None:
    fetched = provider.fetch(lambda _: None)
    kept = copy.deepcopy(fetched)
    assert provider.parse(fetched, START) == provider.parse(fetched, after(1e6))
    assert fetched == kept


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", None, 17, b"[]", b"{}", b"null", b'{"offers": [{}]}', b'{"offers": 17}'],
)
def test_a_page_that_is_none_is_a_bad_answer(provider: ReplayProvider, body: object) -> None:
    with pytest.raises(BadAnswer, match="azure: not a page of a simulated market"):
        provider.parse(Fetched((Page("market", "", body),)), START)


def test_half_a_page_is_a_bad_answer(provider: ReplayProvider) -> None:
    body = provider.fetch(lambda _: None).pages[0].body
    with pytest.raises(BadAnswer):
        provider.parse(Fetched((Page("market", "", body[: len(body) // 2]),)), START)


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    made = LocalExecutor(tmp_path / "clusters", cold_start_s=60, drain_s=0)
    yield made
    for cluster in made.inventory("me"):
        made.terminate(cluster)
    assert made.standing() == {}


def on(spec: LaunchSpec, key_of: str) -> LaunchSpec:
    """The launch on the H100 of northeurope, bought in this way."""
    offer = replace(
        spec.offer,
        provider="azure",
        region="northeurope",
        zone=None,
        instance_type="Standard_NC40ads_H100_v5",
        purchase=Purchase(key_of),
    )
    return replace(spec, offer=offer)


def started(executor: LocalExecutor, spec: LaunchSpec) -> Phase:
    executor.submit(spec)
    end = time.monotonic() + 10
    while (phase := executor.observe([spec.cluster])[spec.cluster].phase) is Phase.PENDING:
        assert time.monotonic() < end
        time.sleep(0.01)
    return phase


def test_a_reclaim_takes_the_machine_closes_the_place_and_spares_the_others(
    executor: LocalExecutor,
) -> None:
    replay = Replay(MARKET, START, speed=3600)
    reclaims = Reclaims(replay, executor, since=START)
    assert started(executor, on(a_spec("spot"), "spot")) is Phase.UP
    assert started(executor, on(a_spec("bought"), "on_demand")) is Phase.UP
    assert reclaims.apply(after(1.9)) == []
    assert reclaims.apply(after(2.1)) == ["spot"]
    seen = executor.observe(["spot", "bought"])
    assert (seen["spot"].phase, seen["bought"].phase) == (Phase.GONE, Phase.UP)

    assert started(executor, on(a_spec("retry"), "spot")) is Phase.FAILED
    assert isinstance(executor.observe(["retry"])["retry"].error, NoCapacity)
    assert reclaims.apply(after(3.6)) == []
    assert started(executor, on(a_spec("later"), "spot")) is Phase.UP


def test_an_event_is_carried_over_once(executor: LocalExecutor) -> None:
    reclaims = Reclaims(Replay(MARKET, START, speed=3600), executor, since=START)
    reclaims.apply(after(3.6))
    assert started(executor, on(a_spec("spot"), "spot")) is Phase.UP
    assert reclaims.apply(after(3.7)) == []


def test_the_demo_has_no_heavy_import() -> None:
    import subprocess
    import sys

    heavy = ["boto3", "sky", "sqlalchemy", "pydantic", "httpx", "rich", "fastapi", "jinja2"]
    program = (
        "import sys, arbiter.demo.server, arbiter.demo.replay, arbiter.demo.reclaims, "
        f"arbiter.demo.traffic; print([name for name in {heavy} if name in sys.modules])"
    )
    seen = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert seen.stdout.strip() == "[]"
