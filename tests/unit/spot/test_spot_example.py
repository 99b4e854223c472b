"""The worked example of docs/spot-policy.md."""

from __future__ import annotations

import re

import pytest
from checkout import REPOSITORY

from arbiter.egress import LEAVES_USD_GB

PAGE = (REPOSITORY / "docs" / "spot-policy.md").read_text(encoding="utf-8")


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


def test_the_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python"), "spot-policy.md", "exec"), {})
    assert capsys.readouterr().out == block("text")


def test_the_figures_around_it_are_its_own() -> None:
    names: dict[str, object] = {}
    exec(block("python"), names)
    beliefs, step = names["beliefs"], names["step"]
    factor = beliefs.factors.pools["west-a"]  # type: ignore[attr-defined]
    why = step.why  # type: ignore[attr-defined]
    minutes = 60 * why.double_running / why.saving
    text = " ".join(PAGE.split())
    assert f"factor from 1 to {factor:.2f}" in text
    assert f"with a probability of {why.missing_after:.4f}" in text
    assert f"double running in {minutes:.1f} minutes" in text


def test_the_daemons_move_is_recorded_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(block("python", 1), "spot-policy.md", "exec"), names)
    assert capsys.readouterr().out == block("text", 1)
    (action,) = names["made"].actions  # type: ignore[attr-defined]
    found = action.expected
    text = " ".join(PAGE.split())
    assert f"probability of {found.missing_after:.2%}".replace("%", " %") in text
    assert f"leaves {found.saving_usd_hour} USD an hour" in text
    assert f"running both, {found.double_running_usd} USD" in text
    assert found.egress_usd == 0


def test_the_list_prices_of_traffic_are_those_in_use() -> None:
    prices = "S3 {s3}, Google {gs}, Azure {az} USD per GB".format(**LEAVES_USD_GB)
    assert prices in " ".join(PAGE.split())
