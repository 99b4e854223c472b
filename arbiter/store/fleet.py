"""Services, their replicas, and the memory of refused capacity."""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from arbiter.crash_loop import NEVER_SERVED, Failed
from arbiter.domain import (
    Offer,
    OfferKey,
    Purchase,
    Refusal,
    Replica,
    ReplicaState,
    Service,
)
from arbiter.errors import ArbiterError, UnknownName
from arbiter.money import Price
from arbiter.regions import Atlas
from arbiter.scaling import Scaling
from arbiter.store.scaling import read_scaling, scaling_text
from arbiter.store.tables import refusal, replica, service

REFUSALS_KEPT = timedelta(days=2)
"""How far back refusals are read: longer than any memory of them lasts."""


def services(connection: Connection) -> list[Service]:
    """All services, by name, those that were ordered down among them."""
    rows = connection.execute(select(service).order_by(service.c.name)).mappings()
    return [_service(row) for row in rows]


def find_service(connection: Connection, name: str) -> Service | None:
    """The service of that name, or None."""
    row = connection.execute(select(service).where(service.c.name == name)).mappings().first()
    return _service(row) if row else None


def get_service(connection: Connection, name: str) -> Service:
    """The service of that name.

    Raises:
        UnknownName: there is none; the hint names the nearest.
    """
    found = find_service(connection, name)
    if found is not None:
        return found
    known = [one.name for one in services(connection)]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "see: arbiter status"
    raise UnknownName(f"no service is called {name!r}", hint)


def add_service(connection: Connection, new: Service, now: datetime) -> Service:
    """Add a service, or order an existing one up again with the new figures.

    Raises:
        ArbiterError: a service of that name serves another profile and is not down.
    """
    old = find_service(connection, new.name)
    if (
        old is not None
        and old.profile != new.profile
        and not (old.down and not _unsettled(connection, new.name))
    ):
        raise ArbiterError(
            f"the service {new.name} serves {old.profile}",
            f"choose another --name, or first: arbiter down {new.name}",
        )
    values: dict[str, Any] = {
        "profile": new.profile,
        "replicas": new.replicas,
        "tags": json.dumps(dict(sorted(new.tags.items()))),
        "sovereignty": new.sovereignty,
        "paused": new.paused,
        "down": False,
        "scaling": scaling_text(new.scaling),
    }
    if old is None:
        try:
            with connection.begin_nested():
                connection.execute(
                    insert(service).values(
                        name=new.name, generation=0, created_at=now, ordered_at=now, **values
                    )
                )
        except IntegrityError:  # somebody launched one of that name at the same instant
            return add_service(connection, new, now)
        return replace(new, generation=0, down=False)
    lowered_at = now if new.replicas < old.replicas else old.lowered_at
    connection.execute(
        update(service)
        .where(service.c.name == new.name)
        .values(**values, lowered_at=lowered_at, ordered_at=now)
    )
    return replace(new, generation=old.generation, down=False, lowered_at=lowered_at)


def order(
    connection: Connection,
    name: str,
    *,
    down: bool | None = None,
    paused: bool | None = None,
) -> Service:
    """End a service, or stop or begin to act for it.

    Raises:
        UnknownName: there is no such service.
    """
    get_service(connection, name)
    values = {"down": down, "paused": paused}
    given = {key: value for key, value in values.items() if value is not None}
    if given:
        connection.execute(update(service).where(service.c.name == name).values(**given))
    return get_service(connection, name)


def scale(
    connection: Connection, name: str, replicas: int, scaling: Scaling | None, now: datetime
) -> Service:
    """Change how many replicas of a service should answer, and what changes that number.

    Raises:
        UnknownName: there is no such service.
    """
    old = get_service(connection, name)
    lowered_at = now if replicas < old.replicas else old.lowered_at
    connection.execute(
        update(service)
        .where(service.c.name == name)
        .values(replicas=replicas, scaling=scaling_text(scaling), lowered_at=lowered_at)
    )
    return replace(old, replicas=replicas, scaling=scaling, lowered_at=lowered_at)


def replicas(
    connection: Connection, atlas: Atlas, name: str | None = None, *, settled: bool = False
) -> list[Replica]:
    """Replicas in the order of their launch.

    Args:
        name: of one service; None is all.
        settled: also those that are ended and cleaned up.
    """
    query = select(replica).order_by(replica.c.launched_at, replica.c.cluster)
    if name is not None:
        query = query.where(replica.c.service == name)
    if not settled:
        query = query.where(replica.c.state != ReplicaState.TERMINATED.value)
    return [_replica(row, atlas) for row in connection.execute(query).mappings()]


def find_replica(connection: Connection, atlas: Atlas, cluster: str) -> Replica | None:
    """The replica of that cluster, settled or not, or None."""
    query = select(replica).where(replica.c.cluster == cluster)
    row = connection.execute(query).mappings().first()
    return _replica(row, atlas) if row else None


def launched_in(connection: Connection) -> dict[str, frozenset[str]]:
    """Provider -> regions where a launch was ever asked for, or a machine was found to run."""
    found: dict[str, set[str]] = {}
    for column in (replica.c.region, replica.c.observed_region):
        query = select(replica.c.provider, column).where(column.is_not(None)).distinct()
        for provider, region in connection.execute(query):
            found.setdefault(provider, set()).add(region)
    return {provider: frozenset(regions) for provider, regions in found.items()}


def add_replica(connection: Connection, new: Replica, variant: str | None) -> None:
    """Note a replica that is about to be launched, and use up its name."""
    offer = new.offer
    connection.execute(
        insert(replica).values(
            cluster=new.cluster,
            service=new.service,
            state=new.state.value,
            provider=offer.provider,
            tier=offer.tier,
            region=offer.region,
            zone=offer.zone,
            instance_type=offer.instance_type,
            gpu=offer.gpu,
            gpu_count=offer.gpu_count,
            purchase=offer.purchase.value,
            variant=variant,
            price_micros=new.price.micros if new.price else None,
            currency=new.price.currency if new.price else None,
            launched_at=new.launched_at,
            changed_at=new.changed_at,
            replaces=new.replaces,
            note=new.note,
        )
    )
    connection.execute(
        update(service)
        .where(service.c.name == new.service)
        .values(generation=service.c.generation + 1)
    )


def save_replica(connection: Connection, changed: Replica, was: Replica | None = None) -> bool:
    """Write what is seen of a replica; whether it was written.

    Args:
        was: as it was when it was looked at: nothing is written where another look has told of it
            since. None is written whatever it was.
    """
    same = [replica.c.cluster == changed.cluster]
    if was is not None:
        same += [
            replica.c.state == was.state.value,
            replica.c.leaving_at.is_not_distinct_from(was.leaving_at),
        ]
    done = connection.execute(
        update(replica)
        .where(*same)
        .values(
            state=changed.state.value,
            changed_at=changed.changed_at,
            up_at=changed.up_at,
            healthy_at=changed.healthy_at,
            endpoint=changed.endpoint,
            request_id=changed.request_id,
            observed_region=changed.observed_region,
            observed_zone=changed.observed_zone,
            paid_micros=_paid(changed),
            leaving_at=changed.leaving_at,
            note=changed.note,
        )
    )
    return done.rowcount > 0


def mark_hedged(connection: Connection, cluster: str, by: str) -> None:
    """Note that another cluster is launched beside a slow launch; it happens once to each."""
    connection.execute(update(replica).where(replica.c.cluster == cluster).values(hedged_by=by))


def leave_the_future(connection: Connection, now: datetime) -> int:
    """Bring to the present what was written before the clock was set back; how many replicas.

    Their deadlines would otherwise wait until the clock comes by again.
    """
    moved = 0
    instants = ("launched_at", "changed_at", "up_at", "healthy_at", "parked_at")
    for column in (replica.c[name] for name in instants):
        ahead = (column > now) & (replica.c.state != ReplicaState.TERMINATED.value)
        done = connection.execute(update(replica).where(ahead).values({column.key: now}))
        moved = max(moved, done.rowcount)
    return moved


def _paid(changed: Replica) -> int | None:
    """In the currency of the quote; a price in another one is not kept."""
    if changed.paid is None or changed.price is None:
        return None
    same = changed.paid.currency == changed.price.currency
    return changed.paid.micros if same else None


def refusals(connection: Connection, now: datetime) -> list[Refusal]:
    """Capacity failures of all services, oldest first: a place that is empty is empty for all.

    One from the future was written before the clock was set back: it would last too long.
    """
    known = refusal.c.at.between(now - REFUSALS_KEPT, now)
    one = refusal.c
    columns = (one.offer_key, one.at, one.until, one.failures, one.reason, one.lost)
    rows = connection.execute(select(*columns).where(known).order_by(one.id))
    return [Refusal(OfferKey.parse(key), *rest) for key, *rest in rows]


def losses(connection: Connection, name: str, since: datetime, now: datetime) -> list[datetime]:
    """When spot machines of a service were lost, oldest first."""
    query = select(refusal.c.at, refusal.c.offer_key).where(
        refusal.c.service == name, refusal.c.lost, refusal.c.at > since, refusal.c.at <= now
    )
    return [
        at
        for at, key in connection.execute(query.order_by(refusal.c.id))
        if OfferKey.parse(key).purchase is Purchase.SPOT
    ]


def never_served(connection: Connection, name: str, now: datetime) -> list[Failed]:
    """Machines of a service that never served, in the order in which they were given up.

    Only those since one of its machines served, and since it was last ordered.
    """
    served = select(func.max(replica.c.healthy_at)).where(replica.c.service == name)
    ordered = select(service.c.ordered_at).where(service.c.name == name)
    since = [at for at in (connection.scalar(served), connection.scalar(ordered)) if at is not None]
    query = select(replica.c.launched_at, replica.c.changed_at, replica.c.note).where(
        replica.c.service == name,
        replica.c.healthy_at.is_(None),
        replica.c.state.in_([ReplicaState.ENDING.value, ReplicaState.TERMINATED.value]),
        replica.c.note.startswith(NEVER_SERVED),
        replica.c.launched_at >= max(since, default=datetime.min.replace(tzinfo=UTC)),
        replica.c.changed_at <= now,
    )
    rows = connection.execute(query.order_by(replica.c.changed_at, replica.c.cluster))
    return [Failed(*row) for row in rows]


def add_refusal(connection: Connection, name: str, new: Refusal) -> None:
    """Remember refused or lost capacity."""
    connection.execute(
        insert(refusal).values(
            service=name,
            offer_key=str(new.key),
            at=new.at,
            until=new.until,
            failures=new.failures,
            reason=new.reason,
            lost=new.lost,
        )
    )


def variant_of(connection: Connection, cluster: str) -> str | None:
    """The quantization that a replica was launched with."""
    return connection.execute(
        select(replica.c.variant).where(replica.c.cluster == cluster)
    ).scalar()


def _unsettled(connection: Connection, name: str) -> bool:
    query = select(replica.c.cluster).where(
        replica.c.service == name, replica.c.state != ReplicaState.TERMINATED.value
    )
    return connection.execute(query.limit(1)).first() is not None


def _service(row: RowMapping) -> Service:
    return Service(
        row["name"],
        row["profile"],
        row["replicas"],
        json.loads(row["tags"]),
        row["sovereignty"],
        row["paused"],
        row["down"],
        row["generation"],
        read_scaling(row["scaling"]),
        row["lowered_at"],
    )


def _replica(row: RowMapping, atlas: Atlas) -> Replica:
    offer = Offer(
        row["provider"],
        row["tier"],
        row["region"],
        row["zone"],
        row["instance_type"],
        row["gpu"],
        row["gpu_count"],
        Purchase(row["purchase"]),
        atlas.place(row["provider"], row["region"]),
    )
    seen = row["observed_region"]
    return Replica(
        cluster=row["cluster"],
        service=row["service"],
        offer=offer,
        price=None if row["price_micros"] is None else Price(row["price_micros"], row["currency"]),
        state=ReplicaState(row["state"]),
        launched_at=row["launched_at"],
        changed_at=row["changed_at"],
        healthy_at=row["healthy_at"],
        endpoint=row["endpoint"],
        request_id=row["request_id"],
        replaces=row["replaces"],
        observed_region=seen,
        observed_zone=row["observed_zone"],
        observed_place=atlas.place(row["provider"], seen) if seen else None,
        paid=None if row["paid_micros"] is None else Price(row["paid_micros"], row["currency"]),
        leaving_at=row["leaving_at"],
        note=row["note"],
        up_at=row["up_at"],
        hedged_by=row["hedged_by"],
        parked_at=row["parked_at"],
    )
