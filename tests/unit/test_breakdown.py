"""How an offer was sized adds up, and every figure says where it comes from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from arbiter.breakdown import Figure, breakdown
from arbiter.calibration import Calibration, Rate, kind
from arbiter.gpus import GPUS
from arbiter.profiles import Profile, load_profile
from arbiter.sizing import Fit, fit

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
AWQ70 = load_profile("llama70b-awq")


def sized(
    profile: Profile, gpu: str, count: int = 1, calibration: Calibration | None = None
) -> Fit:
    found = fit(profile, gpu, count, calibration)
    assert isinstance(found, Fit), found
    return found


def lines(fitted: Fit, demand: Decimal | None = None) -> dict[str, Figure]:
    return {figure.name: figure for figure in breakdown(fitted, NOW, demand)}


@pytest.mark.parametrize(
    ("profile", "gpu", "count"),
    [
        ("llama70b-awq", "L4", 4),
        ("llama70b-awq", "H100", 1),
        ("llama8b", "L4", 1),
        ("gpt-oss-120b", "H200", 1),
        ("llama70b", "A100-80GB", 8),
    ],
)
def test_the_breakdown_adds_up(profile: str, gpu: str, count: int) -> None:
    fitted = sized(load_profile(profile), gpu, count)
    found = lines(fitted)
    taken = ("weights", "activations", "overhead", "margin", "KV cache")
    assert found["memory"].value == pytest.approx(sum(found[name].value for name in taken))
    assert found["KV cache"].value * count == pytest.approx(fitted.kv_gib)
    assert found["weights"].value * count == pytest.approx(fitted.weights_gib)
    assert found["batch"].value == fitted.batch
    busy = max(found["reading"].value, found["computing"].value)
    step = busy + found["fixed"].value + found["all-reduce"].value
    assert found["step"].value == pytest.approx(step)
    output = fitted.sized.profile.workload.output_tokens
    seconds = (found["prefill"].value + output * step) / 1000
    rate = fitted.batch * output / seconds
    assert found["estimate"].value == pytest.approx(rate, abs=0.06)
    assert float(fitted.tokens_per_s) == found["estimate"].value


@pytest.mark.parametrize("gpu", sorted(GPUS))
def test_every_figure_says_how_it_was_found_and_from_what(gpu: str) -> None:
    profile = replace(load_profile("tiny"), gpus=(gpu,))
    fitted = fit(profile, gpu, 1)
    if isinstance(fitted, Fit):
        assert all(one.unit and one.formula and one.source for one in breakdown(fitted, NOW))
        assert "GPU table" in lines(fitted)["reading"].source


def test_the_computing_term_reads_as_it_was_computed() -> None:
    found = lines(sized(AWQ70, "H100"))["computing"]
    assert found.formula == "2 x 70.55 B x 64 / (543.95 TFLOPS x 0.6)"
    assert found.value == pytest.approx(2 * 70.55e9 * 64 / (543.95e12 * 0.6) * 1000)


def test_what_was_measured_is_shown_beside_the_estimate() -> None:
    seen = (NOW - timedelta(hours=3)).timestamp()
    rates = {kind("llama70b-awq", "awq", "H100", 1): Rate(600.0, 1200.0, seen)}
    fitted = sized(AWQ70, "H100", calibration=Calibration(rates, "llama70b-awq", NOW))
    found = lines(fitted)
    assert found["correction"].value == fitted.evidence.factor
    assert "20.0 busy minutes, the last 3.0 h ago" in found["correction"].formula.replace(
        "19.9", "20.0"
    )
    assert found["rate"].value == float(fitted.tokens_per_s)
    assert found["rate"].value == pytest.approx(found["estimate"].value * 0.67, rel=0.01)
    assert (found["rate"].source, found["correction"].source) == (
        "measured", "counters of servers",
    )  # fmt: skip
    other = sized(AWQ70, "H200", calibration=Calibration(rates, "llama70b-awq", NOW))
    assert "other machines" in lines(other)["correction"].formula


def test_a_demand_is_shown_with_what_is_counted_on() -> None:
    stated = replace(AWQ70, workload=replace(AWQ70.workload, demand_tokens_per_s=100.0))
    found = lines(sized(stated, "H100"), Decimal("100.0"))["counted on"]
    assert (found.value, found.source) == (100.0, "the profile")
    counted = lines(sized(AWQ70, "H100"), Decimal("9000.0"))["counted on"]
    assert counted.value == lines(sized(AWQ70, "H100"))["estimate"].value
    assert counted.source == "counters of servers"
