"""Azure remembers what its pages said: the answers are those of one that remembers nothing."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from arbiter.provider import Fetched, Page, Parsed, ProviderSettings
from arbiter_providers.azure import Azure

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SIZES = ("Standard_NC40ads_H100_v5", "Standard_NC24ads_A100_v4", "Standard_D4s_v5")
STARTS = ("2026-11-01T00:00:00Z", "2026-11-11T00:00:00Z")

ROWS = st.fixed_dictionaries(
    {
        "armSkuName": st.sampled_from(SIZES),
        "armRegionName": st.sampled_from(("swedencentral", "westeurope")),
        "retailPrice": st.sampled_from((3.0, 4.5, None)),
        "effectiveStartDate": st.sampled_from(STARTS),
        "effectiveEndDate": st.sampled_from((None, "2026-11-10T23:59:00Z")),
        "isPrimaryMeterRegion": st.booleans(),
    }
)
POLLS = st.lists(
    st.tuples(
        st.lists(st.lists(ROWS, max_size=4), max_size=3),
        st.sampled_from((timedelta(), timedelta(days=1), timedelta(days=-20))),
    ),
    min_size=2,
    max_size=5,
)


def page(rows: list[dict[str, Any]]) -> Page:
    common = {
        "type": "Consumption", "serviceName": "Virtual Machines", "productName": "N Series",
        "skuName": "N", "meterName": "N", "unitOfMeasure": "1 Hour", "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
    }  # fmt: skip
    body = {"Items": [{**common, **row} for row in rows], "NextPageLink": None}
    return Page("retail-prices", "westeurope", json.dumps(body).encode())


def said(parsed: Parsed) -> tuple[object, ...]:
    return parsed.offers, Counter(parsed.skips), parsed.covered


@given(POLLS)
def test_polls_in_a_row_say_what_each_would_say_alone(
    polls: list[tuple[list[list[dict[str, Any]]], timedelta]],
) -> None:
    azure = Azure(ProviderSettings())
    for pages, later in polls:
        fetched = Fetched(tuple(map(page, pages)))
        alone = Azure(ProviderSettings()).parse(fetched, NOW + later)
        assert said(azure.parse(fetched, NOW + later)) == said(alone)


@given(st.lists(ROWS, min_size=1, max_size=6), st.data())
def test_a_row_that_changes_in_its_place_changes_nothing_else(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    azure = Azure(ProviderSettings())
    azure.parse(Fetched((page(rows),)), NOW)
    for _ in range(3):
        place = data.draw(st.integers(0, len(rows) - 1))
        rows = [*rows[:place], data.draw(ROWS), *rows[place + 1 :]]
        fetched = Fetched((page(rows),))
        alone = Azure(ProviderSettings()).parse(fetched, NOW)
        assert said(azure.parse(fetched, NOW)) == said(alone)


def test_an_unchanged_offer_is_the_same_object_beside_one_that_changed() -> None:
    rows = [
        {"armSkuName": size, "armRegionName": "swedencentral", "retailPrice": 3.0,
         "effectiveStartDate": STARTS[0]}
        for size in SIZES[:2]
    ]  # fmt: skip
    azure = Azure(ProviderSettings())
    first = azure.parse(Fetched((page(rows),)), NOW).offers
    rows[0] = {**rows[0], "retailPrice": 4.5}
    second = azure.parse(Fetched((page(rows),)), NOW).offers
    assert second[1] is first[1]
    assert second[0].price.micros == 4_500_000
