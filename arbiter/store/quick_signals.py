"""The signals of single offers, for `arbiter offers --signals`: read only when they are asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from arbiter.domain import Offer, OfferKey
from arbiter.store.quotes import Query

STANDING = """
SELECT g.provider, g.region, g.instance_type, g.zone, g.purchase, g.kind, g.unit, g.low, g.high,
       g.text, g.observed_at, COALESCE(c.seen_at, g.valid_from)
FROM signal g
LEFT JOIN signal_coverage c ON c.provider = g.provider AND c.kind = g.kind
WHERE g.valid_to IS NULL
ORDER BY g.provider, g.kind, g.zone
"""


def read_signals(query: Query, offers: Iterable[Offer]) -> Mapping[OfferKey, list[dict[str, Any]]]:
    """What the providers say of each offer, as JSON-ready dicts; an offer without any is left out.

    A signal without a zone holds for all zones of its region, one without a purchase for both.
    """
    wanted: dict[tuple[str, str, str], list[Offer]] = defaultdict(list)
    for offer in offers:
        wanted[offer.provider, offer.region, offer.instance_type].append(offer)
    found: dict[OfferKey, list[dict[str, Any]]] = defaultdict(list)
    for row in query(STANDING):
        for offer in wanted.get((row[0], row[1], row[2]), ()):
            if row[3] in ("", offer.zone) and row[4] in ("", offer.purchase):
                found[offer.key].append(_signal(row))
    return dict(found)


def _signal(row: Sequence[Any]) -> dict[str, Any]:
    measured = row[11] if row[10] is None else row[10]
    return {
        "kind": row[5],
        "low": row[7],
        "high": row[8],
        "text": row[9],
        "unit": row[6],
        "zone": row[3] or None,
        "measured_at": datetime.fromtimestamp(measured, UTC),
    }
