"""The worked example of docs/spot-policy.md."""

from __future__ import annotations

import re

import pytest
from checkout import REPOSITORY

PAGE = (REPOSITORY / "docs" / "spot-policy.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


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
