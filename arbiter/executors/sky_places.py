"""A place in SkyPilot's words and in ours. Pure.

They differ for two clouds. On AWS our zones are the stable ids ("euc1-az2"), SkyPilot's the names
that every account shuffles ("eu-central-1a"). On RunPod our region is the data centre
("EU-NL-1"), which SkyPilot calls a zone, within a country that it calls a region.
"""

from __future__ import annotations

from arbiter.domain import Offer


def infra(offer: Offer, aws_zone: str | None = None) -> str:
    """What SkyPilot's `infra` must say for a task to run exactly there ("aws/eu-west-1").

    Args:
        aws_zone: the account's name of the offer's zone; without it an AWS task is pinned to its
            region only.

    Raises:
        ValueError: a RunPod data centre whose country is not known.
    """
    if offer.provider == "aws":
        parts = (offer.provider, offer.region, aws_zone)
    elif offer.provider == "runpod":
        if offer.place.country is None:
            raise ValueError(f"the country of {offer.where} is not known")
        parts = (offer.provider, offer.place.country, offer.region)
    elif offer.provider == "gcp":
        parts = (offer.provider, offer.region, offer.zone)
    else:
        parts = (offer.provider, offer.region, None)
    return "/".join(part for part in parts if part)


def our_place(cloud: str, region: str, zone: str | None) -> tuple[str, str | None]:
    """Region and zone as our offers name them; an AWS zone is still the account's name."""
    if cloud.lower() == "runpod":
        return zone or region, None
    return region, zone
