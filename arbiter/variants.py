"""Which stored forms of a model are good enough to be served. Pure.

Fewer bits cost answers some of their quality. How much depends on the model and on what it is
asked, so the order is all that is assumed here: 16 bits before 8 before 4. Between two forms of the
same width none is preferred.
"""

from __future__ import annotations

from dataclasses import replace

from arbiter.policy import Policy
from arbiter.profiles import Profile, Quantization

BITS = {
    Quantization.BF16: 16,
    Quantization.FP8: 8,
    Quantization.AWQ: 4,
    Quantization.MXFP4: 4,
}
"""Bits of a weight of the linear layers: the order of quality."""


def floor_of(profile: Profile, policy: Policy) -> Quantization | None:
    """The lowest form that may be served: the profile's own word, else the policy's, or none.

    The profile comes first because it knows its model: gpt-oss was trained in MXFP4, and loses
    nothing by it.
    """
    return profile.quality_floor or policy.quality_floor


def at_quality(profile: Profile, policy: Policy) -> Profile:
    """The profile with the variants that are good enough; there may be none."""
    floor = floor_of(profile, policy)
    if floor is None:
        return profile
    kept = tuple(one for one in profile.variants if BITS[one.quantization] >= BITS[floor])
    return profile if kept == profile.variants else replace(profile, variants=kept)
