"""GCP's price list for tests: the recorded one, and rows of one's own."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from stand_in_gcp import recorded

from arbiter.domain import Purchase
from arbiter.provider import Fetched, Page, Parsed, ProviderSettings
from arbiter_providers.gcp import ACCELERATOR_TYPES, MACHINE_TYPES, PRICES, Gcp

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SPOT, ON_DEMAND = Purchase.SPOT, Purchase.ON_DEMAND

LISTS = (
    Page(MACHINE_TYPES, "", recorded("machine-types")),
    Page(ACCELERATOR_TYPES, "", recorded("accelerator-types")),
)


def recording(*more: Page) -> Fetched:
    prices = [Page(PRICES, "", recorded(f"skus-{n}")) for n in (1, 2)]
    return Fetched((*prices, *more))


def parse(fetched: Fetched, *regions: str, now: datetime = NOW) -> Parsed:
    return Gcp(ProviderSettings(regions=regions)).parse(fetched, now)


def row(description: str, price: str, *regions: str, **changes: Any) -> dict[str, Any]:
    """A row of the list, by default an hourly price on demand; None takes a key away."""
    units, _, rest = price.partition(".")
    money = {"currencyCode": "USD", "units": units, "nanos": int(rest.ljust(9, "0"))}
    money |= changes.pop("money", {})
    expression = {
        "usageUnit": changes.pop("unit", "h"),
        "tieredRates": changes.pop("tiers", [{"startUsageAmount": 0, "unitPrice": money}]),
    }
    since = changes.pop("since", "2026-11-01T08:00:00Z")
    made = {
        "description": description,
        "category": {
            "resourceFamily": changes.pop("family", "Compute"),
            "resourceGroup": "GPU",
            "usageType": changes.pop("usage", "OnDemand"),
        },
        "serviceRegions": list(regions) or ["europe-west4"],
        "pricingInfo": [{"pricingExpression": expression, "effectiveTime": since}],
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def ram(price: str, *regions: str, **changes: Any) -> dict[str, Any]:
    return row("G2 Instance Ram running in X", price, *regions, unit="GiBy.h", **changes)


G2 = (row("G2 Instance Core running in X", "0.02"), ram("0.003"))
L4 = "Nvidia L4 GPU running in X"


def page(*rows: Any, token: str = "") -> Page:
    return Page(PRICES, "", json.dumps({"skus": rows, "nextPageToken": token}).encode())


def listed(*rows: Any) -> Parsed:
    return parse(Fetched((page(*rows),)))


def prices(parsed: Parsed, purchase: Purchase) -> dict[tuple[str, str], str]:
    return {
        (one.region, one.instance_type): str(one.price)
        for one in parsed.offers
        if one.purchase is purchase
    }


def reasons(skips: Any, *, malformed: bool) -> Counter[str]:
    return Counter(skip.reason for skip in skips if skip.malformed is malformed)
