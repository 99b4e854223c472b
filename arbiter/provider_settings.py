"""The settings of one provider: apart from its contract, for every command reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider's settings, as `[providers.<name>]` in arbiter.toml.

    Attributes:
        enabled: polled by the daemon and by `arbiter poll` without names.
        endpoint: base URL that takes the place of the provider's public one.
        regions: region ids to poll; empty means the provider's own default.
        interval_s: seconds between two polls of the daemon.
        jitter: share of a wait by which a poll may come sooner or later, so that many arbiters do
            not ask one provider at the same instant.
        deadline_s: seconds that one poll may take as a whole; what comes later is discarded.
        requests_per_minute: the provider's budget; requests beyond it wait. None is no limit.
        timeout_s: seconds that one request may take.
        max_attempts: tries per request before the provider counts as unreachable.
        options: provider-specific keys; secrets only as names of environment variables.
    """

    enabled: bool = True
    endpoint: str | None = None
    regions: tuple[str, ...] = ()
    interval_s: float = 300.0
    jitter: float = 0.1
    deadline_s: float = 600.0
    requests_per_minute: float | None = None
    timeout_s: float = 30.0
    max_attempts: int = 4
    options: Mapping[str, Any] = field(default_factory=dict)
