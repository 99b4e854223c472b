"""Weights that are staged in a bucket: whose it is, where it stands, how a server reads it.

A machine that loads from a bucket beside it starts in minutes where the hub takes tens of them, but
the weights are then read from that place: it has to pass the service's rule as a machine has to.
"""

from __future__ import annotations

from collections.abc import Callable

from arbiter.domain import Place
from arbiter.errors import ArbiterError
from arbiter.profiles import BUCKET, Load, Variant
from arbiter.sovereignty import Refused, Rule, judge

PROVIDERS = {"s3": "aws", "gs": "gcp", "az": "azure"}
"""Scheme of a bucket's URL -> the provider that is meant where its region names no other."""

MOUNT_POINT = "/weights"
"""Where a mounted bucket is found on the machine."""


def is_staged(variant: Variant) -> bool:
    """Whether a variant's weights are in a bucket."""
    return BUCKET.match(variant.repository) is not None


def stands_in(variant: Variant) -> tuple[str, str]:
    """Provider and region of a variant's bucket; the region is "" where it is not said.

    A region may name its provider ("scaleway/fr-par"), for buckets that only speak as AWS's do.
    """
    scheme = variant.repository.partition("://")[0]
    region = variant.region or ""
    if "/" in region:
        provider, _, region = region.partition("/")
        return provider, region
    return PROVIDERS[scheme], region


def refuse_outside(variant: Variant, rule: Rule, place_of: Callable[[str, str], Place]) -> None:
    """Let a variant pass whose weights are in no bucket, or in one that the rule allows.

    Args:
        place_of: what is known of a provider's region; of an unknown one nothing.

    Raises:
        ArbiterError: the bucket stands where the rule refuses, or nobody knows where.
    """
    if not is_staged(variant):
        return
    provider, region = stands_in(variant)
    verdict = judge(place_of(provider, region), rule, "standard")
    if isinstance(verdict, Refused):
        raise ArbiterError(
            f"the weights of {variant.repository} stand in {provider}/{region or '?'}, which the "
            f"rule refuses: {verdict.reason}",
            "stage them in a bucket that the rule allows, and name its region in the profile",
        )


def source(variant: Variant) -> str:
    """What `vllm serve` is to load: the repository, or the place of a mounted bucket."""
    if not is_staged(variant) or variant.load is not Load.MOUNT:
        return variant.repository
    below = variant.repository.partition("://")[2].partition("/")[2]
    return f"{MOUNT_POINT}/{below}".rstrip("/")


def mounts(variant: Variant) -> dict[str, str]:
    """Path on the machine -> bucket that SkyPilot mounts there."""
    if not is_staged(variant) or variant.load is not Load.MOUNT:
        return {}
    scheme, _, rest = variant.repository.partition("://")
    return {MOUNT_POINT: f"{scheme}://{rest.partition('/')[0]}"}


def is_streamed(variant: Variant) -> bool:
    """Whether vLLM reads the bucket itself, by its streamer."""
    return is_staged(variant) and variant.load is not Load.MOUNT
