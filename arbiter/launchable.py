"""Where an executor can launch at all. What it cannot launch on is recorded all the same."""

from __future__ import annotations

from collections.abc import Mapping

from arbiter.regions import load_atlas

SKYPILOT = frozenset(
    {"aws", "azure", "gcp", "lambda", "runpod", "nebius", "verda", "seeweb", "vast"}
)
"""Clouds in the wheel of SkyPilot 0.14.1, of those that arbiter knows prices of."""

RECORDED = frozenset({"ovh", "scaleway"})


def not_launchable(executor: str) -> Mapping[str, str]:
    """Provider -> why nothing is launched there. The local executor stands in for every cloud."""
    if executor != "skypilot":
        return {}
    reason = "SkyPilot 0.14.1 does not support this cloud; its prices are only recorded"
    known = RECORDED.union(load_atlas().providers())
    return dict.fromkeys(sorted(known - SKYPILOT), reason)
