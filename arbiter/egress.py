"""What it costs to bring a model's weights to a machine. Pure.

Who stores them bills what leaves for the internet, and some who rent machines bill what comes in.
The figures are list prices as remembered in 2026, of the first tier: an order of size, for one
download weighs little against hours of a GPU.
"""

from __future__ import annotations

from decimal import Decimal

from arbiter.profiles import Variant

LEAVES_USD_GB = {"s3": Decimal("0.09"), "gs": Decimal("0.12"), "az": Decimal("0.087")}
"""Bucket -> USD per GB that leaves its cloud for the internet: AWS, GCP, Azure."""

OWN_CLOUD = {"s3": "aws", "gs": "gcp", "az": "azure"}

ENTERS_FREE = frozenset({"aws", "azure", "gcp", "lambda", "runpod"})
"""Providers that bill nothing for what comes in from the internet, as they publish it."""


def egress_usd(variant: Variant, provider: str, weights_bytes: float) -> Decimal | None:
    """USD for one download of the weights; None where it is not known.

    A hub bills nothing. A bucket in the machine's own cloud is free in its own region and cheap
    from another, and a bucket does not name its region, so that is not known. A path on the
    machine's disk is not known either: somebody brought it there.

    Args:
        provider: whose machine they are brought to.
    """
    scheme, found, _ = variant.repository.partition("://")
    if variant.repository.startswith("/") or provider not in ENTERS_FREE:
        return None
    if not found:
        return Decimal(0)
    if OWN_CLOUD.get(scheme) == provider or scheme not in LEAVES_USD_GB:
        return None
    usd = LEAVES_USD_GB[scheme] * Decimal(weights_bytes) / 10**9
    return usd.quantize(Decimal("0.0001"))
