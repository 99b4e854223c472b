"""Notices that a machine will be taken away: how a machine tells them, and what they say.

A small watcher (`arbiter.executors.watcher`) runs beside vLLM on the clouds that give notices. It
answers on the port after vLLM's, with the key of the replica.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from arbiter.domain import Offer, Purchase
from arbiter.executors.base import Notice

NOTICE_PATH = "/notice"

NOTICE_S = {"aws": 120.0, "azure": 30.0, "gcp": 30.0}
"""Provider -> seconds from the notice of an end to the end, by its documentation; the others give
none."""

WATCHED = frozenset(NOTICE_S)
"""Providers whose machines are told before they are taken."""

SPANS = {"terminate": 120.0, "preempted": 30.0, "Preempt": 30.0}
"""Seconds from a notice to the end where the notice names no instant: AWS 2 minutes, GCP and Azure
30 s, by their documentation."""

UNKNOWN_SPAN_S = 900.0
"""For one of another kind ("rebalance"): the end is near, and nobody says when."""


def is_watched(offer: Offer) -> bool:
    """Whether its provider tells the machine before it takes it away."""
    return offer.purchase is Purchase.SPOT and offer.provider in WATCHED


def notice_port(port: int) -> int:
    """The port of the watcher, by the server's."""
    return port + 1


def parse_notice(body: bytes) -> Notice | None:
    """The notice in a watcher's answer; None where it holds none, or is not an answer."""
    try:
        told = json.loads(body)["notice"]
        if told is None:
            return None
        return Notice(
            str(told["kind"])[:40], _instant(told.get("given_at")), _instant(told.get("takes_at"))
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def leaves_at(notice: Notice, now: datetime) -> datetime:
    """When the machine is to be counted on no longer."""
    if notice.takes_at is not None:
        return notice.takes_at
    span = timedelta(seconds=SPANS.get(notice.kind, UNKNOWN_SPAN_S))
    return (notice.given_at or now) + span


def _instant(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
