"""A launch as the local executor keeps it in the cluster's folder."""

from __future__ import annotations

from typing import Any

from arbiter.executors.base import LaunchSpec


def written(spec: LaunchSpec) -> dict[str, Any]:
    """The spec as it is kept: without the secrets' values."""
    return {
        "cluster": spec.cluster,
        "owner": spec.owner,
        "service": spec.service,
        "offer": str(spec.offer.key),
        "price": str(spec.price) if spec.price else None,
        "model": spec.model,
        "task": spec.task,
        "secrets": sorted(spec.secrets),
        "tags": dict(spec.tags),
    }
