"""What was measured corrects the estimate, by as much as was measured and no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.calibration import (
    ESTIMATE,
    HALF_LIFE_S,
    TRUST_S,
    Basis,
    Busy,
    Calibration,
    Rates,
    busied,
    kind,
    plain_rates,
    rates_of,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
AT = NOW.timestamp()
H100 = kind("llama8b", "bf16", "H100", 1)
L4 = kind("llama8b", "bf16", "L4", 1)


def busy(name: str, share: float, seconds: float, at: float = AT) -> Busy:
    """A server that made so much of the 1000 tokens a second that were estimated."""
    return Busy(at, name, seconds, round(1000 * share * seconds), 1000.0)


def learnt(*events: Busy) -> Rates:
    rates: Rates = {}
    for event in events:
        rates = busied(rates, event)
    return rates


def factor(rates: Rates, gpu: str = "H100", at: datetime = NOW) -> float:
    return Calibration(rates, "llama8b", at).of("bf16", gpu, 1).factor


def test_without_a_measurement_the_estimate_stands() -> None:
    assert Calibration({}, "llama8b", NOW).of("bf16", "H100", 1) == ESTIMATE
    other_model = learnt(busy(kind("llama8b-it", "bf16", "H100", 1), 0.5, 3600))
    assert Calibration(other_model, "llama8b", NOW).of("bf16", "H100", 1) == ESTIMATE


def test_the_estimate_weighs_as_much_as_ten_busy_minutes() -> None:
    found = Calibration(learnt(busy(H100, 0.5, TRUST_S)), "llama8b", NOW).of("bf16", "H100", 1)
    assert (found.basis, found.factor, found.busy_s) == (Basis.MEASURED, 0.75, TRUST_S)
    assert found.seen_at == NOW
    little = Calibration(learnt(busy(H100, 0.5, 60)), "llama8b", NOW).of("bf16", "H100", 1)
    assert little.basis is Basis.CORRECTED
    assert little.factor == pytest.approx(1 - 0.5 * 60 / 660, abs=0.01)


def test_much_measuring_leaves_nothing_of_the_estimate() -> None:
    assert factor(learnt(*(busy(H100, 0.6, 60) for _ in range(1000)))) == 0.6


def test_another_kind_of_machine_is_believed_half_of_it() -> None:
    rates = learnt(busy(H100, 0.5, 1e6))
    found = Calibration(rates, "llama8b", NOW).of("bf16", "L4", 1)
    assert (found.basis, found.factor) == (Basis.CORRECTED, 0.75)
    assert (found.busy_s, found.seen_at) == (0.0, None)
    both = busied(rates, busy(kind("llama8b", "bf16", "A100-80GB", 1), 0.5, 1e6))
    assert factor(both, "L4") == 0.67


def test_an_own_measurement_outweighs_those_of_others() -> None:
    rates = learnt(busy(H100, 0.5, 1e6), busy(L4, 1.5, 1e6))
    assert factor(rates, "L4") == 1.5
    assert factor(rates, "H100") == 0.5


def test_what_is_old_counts_less() -> None:
    rates = learnt(busy(H100, 0.5, TRUST_S))
    later = NOW + timedelta(seconds=HALF_LIFE_S)
    assert factor(rates, at=later) == pytest.approx(1 - 0.5 / 3, abs=0.01)
    anew = busied(rates, busy(H100, 1.0, TRUST_S, AT + HALF_LIFE_S))
    assert factor(anew, at=later) == pytest.approx(1 - 0.5 * 0.5 / 2.5, abs=0.01)


def test_a_clock_set_back_forgets_nothing() -> None:
    rates = learnt(busy(H100, 0.5, TRUST_S), busy(H100, 0.5, TRUST_S, AT - 1e9))
    assert rates[H100].busy_s == 2 * TRUST_S
    assert factor(rates, at=NOW - timedelta(days=400)) == 0.67


@pytest.mark.parametrize("share", [0.0, 0.05, 20.0])
def test_what_cannot_be_is_not_learnt(share: float) -> None:
    assert learnt(busy(H100, share, 60)) == {}


def test_what_was_learnt_is_kept_as_it_is() -> None:
    rates = learnt(busy(H100, 0.5, 77), busy(L4, 1.5, 3))
    assert rates_of(plain_rates(rates)) == rates


events = st.builds(
    busy,
    st.sampled_from([H100, L4, kind("llama8b", "fp8", "H100", 2)]),
    st.floats(0.05, 20),
    st.floats(0.1, 1e5),
    st.floats(AT - 1e7, AT),
)


@given(st.lists(events, max_size=12))
def test_a_factor_lies_between_what_was_measured_and_the_estimate(found: list[Busy]) -> None:
    rates = learnt(*found)
    shares = [1.0, *(one.tokens / one.seconds / one.estimated for one in found)]
    evidence = Calibration(rates, "llama8b", NOW).of("bf16", "H100", 1)
    assert min(shares) - 0.02 <= evidence.factor <= max(shares) + 0.02


@given(st.permutations([busy(H100, 0.5, 60), busy(H100, 2.0, 30), busy(L4, 0.7, 90)]))
def test_the_order_of_one_instant_does_not_matter(found: list[Busy]) -> None:
    assert factor(learnt(*found)) == factor(learnt(*sorted(found, key=str)))
