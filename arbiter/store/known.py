"""What is recorded of instance types."""

from __future__ import annotations

from sqlalchemy import Connection, select

from arbiter.store.tables import series


def machines(connection: Connection) -> dict[tuple[str, str], tuple[str, int]]:
    """(provider, instance type) -> GPU and number of GPUs, where all series agree on them."""
    columns = (series.c.provider, series.c.instance_type, series.c.gpu, series.c.gpu_count)
    found: dict[tuple[str, str], tuple[str, int]] = {}
    torn = set()
    for provider, instance_type, gpu, gpu_count in connection.execute(select(*columns).distinct()):
        if found.setdefault((provider, instance_type), (gpu, gpu_count)) != (gpu, gpu_count):
            torn.add((provider, instance_type))
    return {key: machine for key, machine in found.items() if key not in torn}
