"""Bands of a percentage, as providers write them."""

from __future__ import annotations

import re
from decimal import Decimal


def bounds(label: str) -> tuple[Decimal | None, Decimal | None]:
    """The two ends of a band: "5-10%" has both, "<5%", ">20%" and "20+" one, a word none."""
    numbers = [Decimal(text) for text in re.findall(r"\d+(?:\.\d+)?", label)]
    if len(numbers) == 2 and numbers[0] <= numbers[1]:
        return numbers[0], numbers[1]
    if len(numbers) == 1 and "<" in label:
        return None, numbers[0]
    if len(numbers) == 1 and (">" in label or "+" in label):
        return numbers[0], None
    return None, None
