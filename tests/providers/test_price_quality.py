"""What a price must be before it is believed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.money import Price
from arbiter.provider import Signal
from arbiter.quality import FACTOR, HIGHEST, LOWEST, PEERS, Malformed, read_price, screen
from arbiter.screening import storable
from arbiter.testing import priced
from arbiter_providers._rows import open_page


@pytest.mark.parametrize("good", ["0.091000", "5.0E-1", Decimal("12.34"), 7, " 3.5 "])
def test_a_sound_price_is_read_exactly(good: Decimal | str | int) -> None:
    assert read_price(good) == Price.of(Decimal(str(good).strip()))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("0", "price is 0"),
        ("0.0000000000", "price is 0"),
        (Decimal("-1"), "price is negative"),
        ("NaN", "not a number"),
        ("Infinity", "not a number"),
        ("-Infinity", "not a number"),
        ("N/A*", "not a number"),
        ("", "not a number"),
        (None, "not a number"),
        (True, "not a number"),
        (1.5, "not a number"),
        ([], "not a number"),
        ("0.00001", "below"),
        ("1e-999999999", "below"),
        ("1e999999999", "above"),
        ("100001", "above"),
    ],
)
def test_a_price_that_cannot_be_right_is_refused_with_the_reason(bad: object, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        read_price(bad)


@given(st.one_of(st.text(), st.integers(), st.decimals(), st.floats(), st.none(), st.booleans()))
def test_a_price_is_within_bounds_or_refused(anything: object) -> None:
    try:
        price = read_price(anything)
    except Malformed:
        return
    assert LOWEST <= price.amount <= HIGHEST


def test_a_slip_of_the_decimal_point_is_screened() -> None:
    sound = [priced(f"r{n}", "0.50") for n in range(PEERS)]
    slip = priced("slip", "500")
    assert screen([*sound, slip]) == (sound, [slip])


def test_few_peers_are_not_judged() -> None:
    offers = [priced("a", "0.50"), priced("b", "500"), priced("c", "0.60")]
    assert screen(offers) == (offers, [])


def test_a_large_machine_is_compared_per_gpu() -> None:
    offers = [priced(f"r{n}", "0.50") for n in range(PEERS)]
    offers.append(priced("big", "410", gpu_count=8))
    offers.append(priced("bigger", "300", gpu_count=8))
    kept, _ = screen(offers)
    assert [offer.region for offer in kept if offer.gpu_count == 8] == ["bigger"]


def test_spot_is_not_compared_with_on_demand_nor_one_gpu_with_another() -> None:
    offers = [priced(f"r{n}", "0.01") for n in range(PEERS)]
    offers.append(priced("x", "90", purchase=Purchase.ON_DEMAND))
    offers.append(priced("y", "90", gpu="H100"))
    assert screen(offers) == (offers, [])


@given(st.lists(st.integers(min_value=1000, max_value=10**9), max_size=30))
def test_screening_loses_nothing_and_keeps_the_order(micros: list[int]) -> None:
    offers = [priced(f"r{n}", str(Decimal(one) / 10**6)) for n, one in enumerate(micros)]
    kept, wild = screen(offers)
    assert len(kept) + len(wild) == len(offers)
    assert kept == [offer for offer in offers if offer in kept]
    if kept and len(offers) >= PEERS:
        prices = [offer.price.micros for offer in kept]
        assert max(prices) <= FACTOR**2 * min(prices)


def test_nothing_is_screened_from_nothing() -> None:
    assert screen([]) == ([], [])


def test_a_signal_that_cannot_be_stored_is_left_out() -> None:
    sound = Signal("stock", "LOW or HIGH", "eu-west-1", None, "g6.xlarge", text="LOW")
    odd = [replace(sound, region=""), replace(sound, text="LO\0W"), replace(sound, zone="a\nb")]
    assert storable([sound, *odd]) == [sound]
    signals = [sound]
    assert storable(signals) is signals


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", '\n<?xml version="1.0"?><Error/>'])
def test_a_page_for_people_is_told_from_half_an_answer(body: bytes | str) -> None:
    with pytest.raises(BadAnswer, match="the list is not JSON but HTML or XML"):
        open_page("the list", body, msgspec.json.Decoder().decode)
    with pytest.raises(BadAnswer, match="the list is not JSON, or breaks off"):
        open_page("the list", '{"rows": [', msgspec.json.Decoder().decode)
