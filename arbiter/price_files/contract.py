"""The columns of a file of prices: their names, what they are also called, which must be there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from difflib import get_close_matches

from arbiter.errors import ArbiterError

COLUMNS: dict[str, tuple[str, ...]] = {
    # our name: other names under which it is found without being told
    "provider": ("cloud", "vendor"),
    "tier": (),
    "region": ("location",),
    "zone": ("availability_zone", "az"),
    "instance_type": ("machine_type", "vm_size", "instance"),
    "os": ("product_description", "operating_system", "os_type"),
    "gpu": ("gpu_model", "gpu_type", "gpu_name", "accelerator", "accelerator_name"),
    "gpu_count": ("gpus", "num_gpus", "accelerator_count"),
    "purchase": ("purchase_type", "purchase_option", "rental_type", "pricing_model"),
    "currency": ("currency_code",),
    "price_hour": ("price", "hourly_price", "price_per_hour", "spot_price"),
    "price_micros": (),
    "price_gpu_hour": (),
    "valid_from": ("timestamp", "time", "date", "observed_at", "since"),
    "valid_to": ("until", "end"),
    "source": (),
    "is_backfill": (),
}

IDENTITY = (
    "provider", "tier", "region", "zone", "instance_type", "os", "gpu", "gpu_count", "purchase",
    "currency", "source", "is_backfill",
)  # fmt: skip
"""The columns that say whose price a row is, and where it comes from."""

PRICES = ("price_hour", "price_micros", "price_gpu_hour")
"""The columns that a price may be in; of several that are found the first counts."""

DEFAULTS = {"tier": "standard", "zone": "", "os": "", "is_backfill": "true"}
DERIVED = {
    "region": "the zone's region",
    "gpu": "the GPU of an instance type that is known",
    "gpu_count": "the GPUs of an instance type that is known",
}
"""What may be absent, as it can be found otherwise."""

NEEDED = ("provider", "instance_type", "purchase", "currency", "valid_from")


class BadFile(ArbiterError):
    """A file of prices that cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read.

    Attributes:
        renamed: their column -> ours; one of theirs may stand for several of ours.
        values: our column -> the value that every row has.
        zone: what times without an offset are meant in; None refuses them.
    """

    renamed: Sequence[tuple[str, str]] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each of our columns is found.

    Attributes:
        places: our column -> its place in a row.
        values: our column -> the value of every row, of those that have no place.
        names: our column -> what the file calls it, for messages.
    """

    places: Mapping[str, int]
    values: Mapping[str, str]
    names: Mapping[str, str]

    def has(self, name: str) -> bool:
        """Whether every row has the column."""
        return name in self.places or name in self.values


def lay_out(header: Sequence[str], reading: Reading, source: str) -> Layout:
    """Find our columns in a file's header.

    Args:
        source: where the rows come from when the file does not say.

    Raises:
        BadFile: a column is missing, is there twice, or was named and is not there.
    """
    folded = [_folded(name) for name in header]
    places: dict[str, int] = {}
    for theirs, ours in reading.renamed:
        places[ours] = _place(theirs, header, folded)
    mapped = set(places.values())
    for name, others in COLUMNS.items():
        if name in places or name in reading.values:
            continue
        for candidates in ((name,), others):
            found = [at for at, one in enumerate(folded) if one in candidates and at not in mapped]
            if len(found) > 1:
                twice = " and ".join(repr(header[at]) for at in found)
                raise BadFile(f"{twice} could both be {name}", f"say which: --map COLUMN={name}")
            if found:
                places[name] = found[0]
                break
    named = {ours for _, ours in reading.renamed} | reading.values.keys()
    counts = min((name for name in PRICES if name in places), key=lambda one: one not in named,
                 default=None)  # fmt: skip
    for name in PRICES:
        if name != counts:
            places.pop(name, None)
    layout = Layout(
        places,
        {**DEFAULTS, "source": source, **reading.values},
        {name: header[at] for name, at in places.items()},
    )
    _require(layout, header)
    return layout


def parse_renamed(text: str) -> tuple[str, str]:
    """`THEIRS=OURS` as it was typed.

    Raises:
        BadFile: it is none, or ours is no column.
    """
    theirs, separator, ours = text.rpartition("=")
    if not separator or not theirs:
        raise BadFile(f"--map {text!r} is not COLUMN=OURS", "write --map spot_price_usd=price_hour")
    return theirs, _ours(ours)


def parse_value(text: str) -> tuple[str, str]:
    """`OURS=VALUE` as it was typed.

    Raises:
        BadFile: it is none, or ours is no column.
    """
    ours, separator, value = text.partition("=")
    if not separator:
        raise BadFile(f"--set {text!r} is not OURS=VALUE", "write --set provider=aws")
    return _ours(ours), value


def _ours(name: str) -> str:
    folded = _folded(name)
    if folded in COLUMNS:
        return folded
    near = get_close_matches(folded, COLUMNS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)}"
    raise BadFile(f"{name!r} is no column of prices", hint)


def _place(theirs: str, header: Sequence[str], folded: Sequence[str]) -> int:
    if theirs in header:
        return list(header).index(theirs)
    if _folded(theirs) in folded:
        return folded.index(_folded(theirs))
    near = get_close_matches(_folded(theirs), folded, n=1)
    few = ", ".join(header)
    hint = f"did you mean {header[folded.index(near[0])]}?" if near else f"there are {few}"
    raise BadFile(f"the file has no column {theirs!r}", hint)


def _require(layout: Layout, header: Sequence[str]) -> None:
    missing = [name for name in NEEDED if not layout.has(name)]
    if not any(map(layout.has, PRICES)):
        missing.append("price_hour")
    if not layout.has("region") and "zone" not in layout.places:
        missing.append("region")
    if missing:
        raise BadFile(
            f"the file has no column for {', '.join(missing)}: it has {', '.join(header)}",
            f"name it: --map COLUMN={missing[0]}, or give all rows one: --set {missing[0]}=...",
        )


def _folded(name: str) -> str:
    """ "InstanceType", "instance-type" and "Instance Type" are all instance_type."""
    words = re.sub("(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return "_".join(words.lower().replace("-", " ").replace("_", " ").split())
