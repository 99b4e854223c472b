"""What a launch was expected to save and to cost: a value."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Expected:
    """What a launch was expected to save and to cost when it was decided.

    Attributes:
        saving_usd_hour: by how much the hourly cost falls, missing replicas included at what they
            are worth; None where no on-demand price is known to count it by.
        stay_h: hours for which it is counted on.
        cold_start_s: seconds until it answers, for which it runs beside what it replaces.
        double_running_usd: what that costs.
        egress_usd: of bringing the weights there; None where not known.
        pays_back_h: hours after which the saving has brought back what was paid once.
        losses_per_h: how often machines are lost there; 0 on demand.
        missing_before, missing_after: expected number of replicas missing.
        missing_cost: on-demand hours that an hour of one of them counted as.
    """

    saving_usd_hour: Decimal | None
    stay_h: float
    cold_start_s: float
    double_running_usd: Decimal | None
    egress_usd: Decimal | None
    pays_back_h: float | None
    losses_per_h: float
    missing_before: float
    missing_after: float
    missing_cost: float
