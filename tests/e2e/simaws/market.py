"""What the simulated AWS sells, at which prices: a table, and the answers made from prices.json.

prices.json is read anew for every answer, so a test moves the market by writing it:

    {"eu-north-1": {"g6.xlarge": {"on_demand": "0.8500", "spot": {"eun1-az1": "0.3100"}}}}
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape


class InstanceType(NamedTuple):
    """A machine; `gpu` is SkyPilot's name of its accelerator, which is also AWS's for these."""

    name: str
    gpu: str
    gpus: int
    gpu_mib: int
    cpus: int
    memory_gib: int


INSTANCE_TYPES = (
    InstanceType("g6.xlarge", "L4", 1, 22888, 4, 16),
    InstanceType("g5.xlarge", "A10G", 1, 22888, 4, 16),
)
ZONES: Mapping[str, tuple[str, ...]] = {
    "eu-west-1": ("euw1-az1", "euw1-az2", "euw1-az3"),
    "eu-central-1": ("euc1-az1", "euc1-az2", "euc1-az3"),
    "eu-north-1": ("eun1-az1", "eun1-az2", "eun1-az3"),
    "us-east-1": ("use1-az1", "use1-az2", "use1-az4"),
}
"""Region -> zone ids. London is left out on purpose: nothing may depend on it being here."""

Prices = dict[str, dict[str, dict[str, Any]]]

# us-east-1 is the cheapest by far, so that only the sovereignty rule keeps anybody out of it.
FIRST_PRICES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "eu-north-1": {"g6.xlarge": ("0.8520", "0.3110"), "g5.xlarge": ("1.0670", "0.4300")},
    "eu-central-1": {"g6.xlarge": ("1.0064", "0.3620"), "g5.xlarge": ("1.2580", "0.5100")},
    "eu-west-1": {"g6.xlarge": ("0.8934", "0.4010"), "g5.xlarge": ("1.1230", "0.4700")},
    "us-east-1": {"g6.xlarge": ("0.8048", "0.1900"), "g5.xlarge": ("1.0060", "0.2500")},
}
"""Region -> type -> on-demand price and the spot price of the first zone, in USD per hour."""


def first_prices() -> Prices:
    """The market as it opens: the further the zone's number, the dearer, by a cent each."""
    return {
        region: {
            name: {
                "on_demand": on_demand,
                "spot": {
                    zone: f"{float(spot) + index / 100:.4f}"
                    for index, zone in enumerate(ZONES[region])
                },
            }
            for name, (on_demand, spot) in types.items()
        }
        for region, types in FIRST_PRICES.items()
    }


class Market:
    """The prices in a file, written by tests and read by the simulated AWS."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Prices:
        """The prices that stand now."""
        prices: Prices = json.loads(self._path.read_text())
        return prices

    def write(self, prices: Prices) -> None:
        """Put new prices in the place of all that stood, at once."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(prices, indent=1))
        os.replace(draft, self._path)

    def set_spot(self, region: str, instance_type: str, price: str) -> None:
        """One spot price for every zone of a region."""
        prices = copy.deepcopy(self.read())
        spot = prices[region][instance_type]["spot"]
        spot.update(dict.fromkeys(spot, price))
        self.write(prices)

    def changed_at(self) -> datetime:
        """When the prices were last written."""
        return datetime.fromtimestamp(self._path.stat().st_mtime, UTC)


def spot_history(
    market: Market, region: str, types: Sequence[str], names: Mapping[str, str]
) -> str:
    """The XML answer of DescribeSpotPriceHistory.

    Args:
        types: the instance types asked for; empty means all.
        names: the account's zone ids -> zone names.
    """
    since = market.changed_at().strftime("%Y-%m-%dT%H:%M:%S.000Z")
    rows = "".join(
        f"<item><instanceType>{escape(name)}</instanceType>"
        f"<productDescription>Linux/UNIX</productDescription><spotPrice>{price}</spotPrice>"
        f"<timestamp>{since}</timestamp><availabilityZone>{names[zone]}</availabilityZone></item>"
        for name, price_of in market.read().get(region, {}).items()
        if not types or name in types
        for zone, price in price_of["spot"].items()
    )
    return (
        '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>simulated</requestId><spotPriceHistorySet>{rows}</spotPriceHistorySet>"
        "<nextToken></nextToken></DescribeSpotPriceHistoryResponse>"
    )


def products(market: Market, filters: Sequence[Mapping[str, str]]) -> str:
    """The JSON answer of GetProducts to filters on region and instance type."""
    wanted = {each["Field"]: each["Value"] for each in filters}
    types = set(wanted["instanceType"].split(",")) if "instanceType" in wanted else None
    listed = [
        json.dumps(product)
        for product in _products(market, wanted.get("regionCode"))
        if types is None or product["product"]["attributes"]["instanceType"] in types
    ]
    return json.dumps({"FormatVersion": "aws_v1", "PriceList": listed})


def _products(market: Market, region: str | None) -> Iterator[dict[str, Any]]:
    since = market.changed_at().strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, types in market.read().items():
        if region not in (None, name):
            continue
        for instance_type, price in types.items():
            attributes = {
                "instanceType": instance_type,
                "regionCode": name,
                "operatingSystem": "Linux",
                "tenancy": "Shared",
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "marketoption": "OnDemand",
                "servicecode": "AmazonEC2",
            }
            dimension = {
                "unit": "Hrs",
                "beginRange": "0",
                "endRange": "Inf",
                "pricePerUnit": {"USD": price["on_demand"]},
            }
            term = {"priceDimensions": {"d": dimension}, "effectiveDate": since}
            product = {"productFamily": "Compute Instance", "attributes": attributes}
            yield {"product": product, "terms": {"OnDemand": {"t": term}}}
