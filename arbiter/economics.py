"""What a launch was expected to save and to cost, in dollars, for the record of a decision. Pure.

The rule counts in on-demand hours (`arbiter.spot`); here its figures meet the market's prices.
"""

from __future__ import annotations

from decimal import Decimal

from arbiter.domain import Candidate, Expected
from arbiter.egress import egress_usd
from arbiter.profiles import Profile
from arbiter.roofline import weights_bytes
from arbiter.spot.decide import Why

CENT_OF_CENT = Decimal("0.0001")


def expected(
    why: Why,
    chosen: Candidate,
    profile: Profile,
    *,
    cold_h: float,
    losses_per_h: float,
    on_demand: Candidate | None,
    missing_cost: float,
) -> Expected:
    """The figures of one launch.

    Args:
        why: of the step that led to it.
        chosen: what is launched.
        cold_h: hours until it answers.
        losses_per_h: hazard of a machine launched there now.
        on_demand: the offer whose price is the unit of `why`; None where none is known.
        missing_cost: the V in force.
    """
    double = _usd(chosen, cold_h)
    variant = next(one for one in profile.variants if one.quantization == chosen.variant)
    weights = weights_bytes(profile.architecture, variant)
    egress = egress_usd(variant, chosen.quote.offer.provider, weights)
    saving = None if on_demand is None else _usd(on_demand, why.saving)
    once = (double or Decimal(0)) + (egress or Decimal(0))
    return Expected(
        saving_usd_hour=saving,
        stay_h=why.stay_h,
        cold_start_s=cold_h * 3600.0,
        double_running_usd=double,
        egress_usd=egress,
        pays_back_h=float(once / saving) if saving is not None and saving > 0 else None,
        losses_per_h=losses_per_h,
        missing_before=why.missing_before,
        missing_after=why.missing_after,
        missing_cost=missing_cost,
    )


def pays(found: Expected) -> bool:
    """Whether the saving over the expected stay is more than what is paid once; as far as known."""
    if found.saving_usd_hour is None:
        return True
    once = (found.double_running_usd or Decimal(0)) + (found.egress_usd or Decimal(0))
    return found.saving_usd_hour * Decimal(repr(found.stay_h)) > once


def expected_line(found: Expected) -> str:
    """The figures as text."""
    gain = f"{found.missing_before:.4f} replicas missing before, {found.missing_after:.4f} after"
    if found.saving_usd_hour is None:
        saving = "saving unknown, as no on-demand price is known"
    else:
        worth = f"{gain}, each worth {found.missing_cost:.3g} on-demand hours an hour"
        saving = f"saves {found.saving_usd_hour} USD an hour ({worth})"
    egress = "unknown" if found.egress_usd is None else f"{found.egress_usd} USD"
    back = "" if found.pays_back_h is None else f", back after {found.pays_back_h * 60:.0f} min"
    return (
        f"expected: {saving}; once {found.double_running_usd} USD until it answers "
        f"({found.cold_start_s:.0f} s) and egress {egress}{back} of a stay of "
        f"{found.stay_h:.1f} h; {found.losses_per_h:.3f} losses an hour there"
    )


def _usd(candidate: Candidate, hours: float) -> Decimal | None:
    price = candidate.quote.price
    if price is None:
        return None
    return (price.amount * Decimal(repr(hours))).quantize(CENT_OF_CENT)
