"""Where an executor can launch at all. What it cannot launch on is recorded all the same."""

from __future__ import annotations

from collections.abc import Mapping

from arbiter.regions import load_atlas

SKYPILOT = frozenset({"aws", "azure", "gcp", "lambda", "runpod", "nebius", "seeweb"})
"""Clouds that SkyPilot 0.14.1 can run a server on, of those that arbiter knows prices of."""

_UNSUPPORTED = "SkyPilot 0.14.1 does not support this cloud; its prices are only recorded"

RECORDED = {
    "ovh": _UNSUPPORTED,
    "scaleway": _UNSUPPORTED,
    # It is in SkyPilot's wheel, which refuses every task there that names a port.
    "verda": "SkyPilot 0.14.1 opens no port on Verda, so no server there could be reached",
    # A series of Vast is the lowest ask of strangers, and the next host is another one.
    "vast": "a price of Vast is the lowest ask, and no machine that could be asked for by name",
    # In SkyPilot's catalog every machine of RunPod is one of the secure cloud.
    "runpod/community": "SkyPilot 0.14.1 knows no machines of RunPod's community cloud",
}
"""Provider, or provider/tier -> why nothing is launched there."""


def not_launchable(executor: str) -> Mapping[str, str]:
    """Why nothing is launched on a provider ("ovh"), or on one of its tiers ("runpod/community").

    The local executor stands in for every cloud.
    """
    if executor != "skypilot":
        return {}
    others = sorted(set(load_atlas().providers()) - SKYPILOT - set(RECORDED))
    return {**dict.fromkeys(others, _UNSUPPORTED), **RECORDED}
