"""What code and documents say of the estimate's error is what the benchmark finds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from math import ceil
from pathlib import Path

import pytest
from checkout import REPOSITORY

from arbiter.profiles import Quantization
from arbiter.sizing import ERROR

PAGE = (REPOSITORY / "docs" / "throughput.md").read_text(encoding="utf-8")
BANDWIDTH, COMPUTE = "memory bandwidth", "16 bit compute"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[float, float]]:
    """(name, peer) -> the figure of ours and of the peer, from a run of the benchmark."""
    file: Path = tmp_path_factory.mktemp("benchmark") / "rows.json"
    command = [sys.executable, "benchmarks/throughput.py", "--quick", "--json", str(file)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return {(row["name"], row["peer"]): (row["value"], row["peer_value"]) for row in rows}


@pytest.mark.parametrize("stored", list(ERROR))
def test_the_code_states_the_error_that_was_found(
    found: dict[tuple[str, str], tuple[float, float]], stored: Quantization
) -> None:
    half = found[f"median error, all rows of {stored}", BANDWIDTH][0]
    most = found[f"ninth tenth of the error, all rows of {stored}", BANDWIDTH][0]
    assert ERROR[stored] == (ceil(half), ceil(most))


@pytest.mark.parametrize("stored", list(ERROR))
def test_the_page_states_it_too(
    found: dict[tuple[str, str], tuple[float, float]], stored: Quantization
) -> None:
    half, most = (
        f"median error, all rows of {stored}",
        (f"ninth tenth of the error, all rows of {stored}"),
    )
    cells = [
        f"{found[half, BANDWIDTH][0]:.1f} %",
        f"{found[most, BANDWIDTH][0]:.1f} %",
        *(
            f"{found[half, peer][1]:.1f} %, {found[most, peer][1]:.1f} %"
            for peer in (BANDWIDTH, COMPUTE)
        ),
    ]
    assert re.search(rf"\| {stored} \| \d+ \| {re.escape(' | '.join(cells))} \|", PAGE)


def test_the_sentences_below_the_table_are_true(
    found: dict[tuple[str, str], tuple[float, float]],
) -> None:
    fit = "median error, no part of any fit"
    order = "pairs of GPUs in the wrong order, AccelMark 8B bf16"
    text = " ".join(PAGE.split())
    assert f"half are within {found[fit, BANDWIDTH][0]:.1f} %" in text
    assert (
        f"(the peers: {found[fit, BANDWIDTH][1]:.1f} % and {found[fit, COMPUTE][1]:.1f} %)" in text
    )
    assert f"{found[order, BANDWIDTH][0]:.1f} % of the pairs come out in the wrong order" in text
    assert found[order, BANDWIDTH][1] == found[order, COMPUTE][1]
    assert f"by bandwidth or compute alone {found[order, BANDWIDTH][1]:.1f} %" in text
    tau = 1 - found[order, BANDWIDTH][0] / 50
    assert f"(Kendall tau {tau:.2f})" in text
