"""Money is exact, has a currency, and never mixes two."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arbiter.money import Price, decimal_string

currencies = st.sampled_from(("USD", "EUR", "GBP"))
micros = st.integers(-(10**15), 10**15)
amounts = st.decimals(-(10**9), 10**9, places=6)


@given(micros, currencies)
def test_an_amount_comes_back_as_it_was(units: int, currency: str) -> None:
    price = Price(units, currency)
    assert Price.of(price.amount, currency) == price
    assert Price.of(decimal_string(price.amount), currency) == price


@given(amounts)
def test_a_printed_amount_is_plain_and_exact(amount: Decimal) -> None:
    text = decimal_string(amount)
    assert Decimal(text) == amount
    assert "E" not in text.upper()
    assert not ("." in text and text.endswith("0"))


@given(micros, micros, micros, currencies)
def test_sums_are_exact(one: int, two: int, three: int, currency: str) -> None:
    a, b, c = (Price(units, currency) for units in (one, two, three))
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert (a + b) - b == a
    assert (a + b).amount == a.amount + b.amount


@given(micros, micros, currencies, currencies)
def test_two_currencies_never_meet(one: int, two: int, mine: str, yours: str) -> None:
    assume(mine != yours)
    a, b = Price(one, mine), Price(two, yours)
    assert a != b
    for together in (
        lambda: a + b,
        lambda: a - b,
        lambda: a < b,
        lambda: a <= b,
        lambda: a > b,
        lambda: a >= b,
    ):
        with pytest.raises(ValueError, match="cannot be combined"):
            together()


@given(micros, micros, currencies)
def test_order_is_that_of_the_amounts(one: int, two: int, currency: str) -> None:
    a, b = Price(one, currency), Price(two, currency)
    assert (a < b) == (a.amount < b.amount)
    assert (a <= b) == (a.amount <= b.amount)


@given(micros, st.integers(-1000, 1000))
def test_whole_multiples_are_exact(units: int, factor: int) -> None:
    assert Price(units).times(factor).micros == units * factor


@given(micros, st.decimals(-1000, 1000, places=4))
def test_other_multiples_are_off_by_half_a_millionth_at_most(units: int, factor: Decimal) -> None:
    exact = Decimal(units) * factor
    assert abs(Price(units).times(factor).micros - exact) <= Decimal("0.5")


@given(st.floats())
def test_a_float_is_not_money(amount: float) -> None:
    with pytest.raises(TypeError, match="float is not money"):
        Price.of(amount)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "free", "NaN", "Infinity", "-Infinity", "sNaN", "1,5"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        Price.of(text)


@pytest.mark.parametrize(
    ("text", "units"), [("0.0000005", 0), ("0.0000015", 2), ("0.0000025", 2), ("3.06", 3_060_000)]
)
def test_halves_of_a_millionth_go_to_the_even_one(text: str, units: int) -> None:
    assert Price.of(text).micros == units
