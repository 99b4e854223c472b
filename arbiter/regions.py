"""The region table: where a provider's region really is, and who runs it.

The facts are our own, in data/regions/regions.csv, each group with a confidence: "docs" (the
provider's pages), "code" (a public catalogue or SDK), "memory" (to be confirmed), "none".
What a country means for the law is not in here but in arbiter.sovereignty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from arbiter.domain import Place
from arbiter.errors import ArbiterError
from arbiter.resources import resource_dir
from arbiter.sovereignty import Selection

# fmt: off
COLUMNS = (
    "provider", "region_id", "city", "country_iso", "in_eu", "in_eea", "adequacy", "operator",
    "operator_country", "ultimate_parent", "parent_country", "cloud_act_exposed",
    "seal_public_award", "certs", "gpu", "access", "confidence", "operator_confidence",
    "certs_confidence", "gpu_confidence", "source", "note",
)
# fmt: on

CONFIDENCES = ("none", "memory", "code", "docs")
"""From the weakest to the strongest."""

_ALLOWED = {
    "cloud_act_exposed": ("no", "partial", "yes", "yes_parent", "contested"),
    "access": ("general", "dedicated"),
    "confidence": CONFIDENCES,
    "operator_confidence": CONFIDENCES,
    "certs_confidence": CONFIDENCES,
}
_UNKNOWN = frozenset({"", "?", "unknown"})
_NOWHERE = "ZZ"  # ISO 3166 keeps this code for "unknown"
_ANY_CASE = frozenset({"azure"})  # its price API and its SDK spell region ids differently


class Atlas:
    """Every known region of every provider."""

    def __init__(self, places: Mapping[tuple[str, str], Place]) -> None:
        self._places = dict(places)
        self._folded = {
            (provider, region.casefold()): place
            for (provider, region), place in self._places.items()
            if provider in _ANY_CASE
        }
        self._unknown: dict[tuple[str, str], Place] = {}

    def place(self, provider: str, region: str) -> Place:
        """What is known of a region; a Place that knows nothing for one not in the table.

        Region ids are taken as the provider writes them; Azure's are the same in any case. The
        same region always gives the same object.
        """
        found = self._places.get((provider, region))
        if found is None and provider in _ANY_CASE:
            found = self._folded.get((provider, region.casefold()))
        if found is None:
            found = self._unknown.setdefault((provider, region), Place(provider, region))
        return found

    def regions(self, provider: str) -> tuple[str, ...]:
        """The region ids of a provider in the table's order; empty for a provider not in it."""
        return tuple(place.region for place in self if place.provider == provider)

    def providers(self) -> tuple[str, ...]:
        """The providers in the table's order."""
        return tuple(dict.fromkeys(place.provider for place in self))

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places.values())

    def __len__(self) -> int:
        return len(self._places)


def load_atlas(path: Path | None = None) -> Atlas:
    """The region table, read once for each file.

    Args:
        path: another file with the same columns; None takes the project's own.

    Raises:
        ArbiterError: the file is missing or malformed; the message has the file and the line.
    """
    return _read(path or resource_dir("data") / "regions" / "regions.csv")


@cache
def _read(path: Path) -> Atlas:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArbiterError(f"the region table {path} cannot be read: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    if tuple(next(reader, ())) != COLUMNS:
        raise _malformed(path, 1, f"the columns must be {','.join(COLUMNS)}")
    places: dict[tuple[str, str], Place] = {}
    for row in reader:
        place = _place(path, reader.line_num, row)
        if (place.provider, place.region) in places:
            raise _malformed(
                path, reader.line_num, f"{place.provider}/{place.region} is listed twice"
            )
        places[place.provider, place.region] = place
    return Atlas(places)


def _place(path: Path, line: int, row: Sequence[str]) -> Place:
    if len(row) != len(COLUMNS):
        raise _malformed(path, line, f"{len(row)} columns instead of {len(COLUMNS)}")
    cell = dict(zip(COLUMNS, row, strict=True))
    if not cell["provider"] or not cell["region_id"]:
        raise _malformed(path, line, "provider and region_id must not be empty")
    for column, words in _ALLOWED.items():
        if cell[column] not in words and cell[column] not in _UNKNOWN:
            wanted = ", ".join(words)
            raise _malformed(path, line, f"{column} is {cell[column]!r}, must be one of {wanted}")
    for column in ("country_iso", "operator_country", "parent_country"):
        if not _is_country(cell[column]):
            raise _malformed(path, line, f"{column} is {cell[column]!r}, must be two capitals (DE)")
    return Place(
        provider=cell["provider"],
        region=cell["region_id"],
        city=_known(cell["city"]),
        country=_known(cell["country_iso"]),
        adequacy=_known(cell["adequacy"]),
        operator=_known(cell["operator"]),
        operator_country=_known(cell["operator_country"]),
        parent=_known(cell["ultimate_parent"]),
        parent_country=_known(cell["parent_country"]),
        cloud_act=_known(cell["cloud_act_exposed"]),
        certificates=frozenset(filter(None, map(str.strip, cell["certs"].split(";")))),
        access=_known(cell["access"]),
        location_confidence=_known(cell["confidence"]) or "none",
        operator_confidence=_known(cell["operator_confidence"]) or "none",
        certificates_confidence=_known(cell["certs_confidence"]) or "none",
        source=cell["source"],
    )


def _known(cell: str) -> str | None:
    return None if cell in _UNKNOWN or cell == _NOWHERE else cell


def _is_country(cell: str) -> bool:
    return cell in _UNKNOWN or (
        len(cell) == 2 and cell.isascii() and cell.isalpha() and cell.isupper()
    )


def _malformed(path: Path, line: int, what: str) -> ArbiterError:
    return ArbiterError(f"{path}:{line}: {what}", "mend the line, or install arbiter again")


def unknown_names(selection: Selection, atlas: Atlas) -> list[str]:
    """One line for each name in an allow or deny list that names nothing in the table.

    A deny list with a slip in it would deny nothing and say so to nobody; whoever reads a policy
    file reports these lines. A country needs only a well-formed code.
    """
    names: dict[str, tuple[Sequence[str], set[str]]] = {
        "provider": (selection.providers, set(atlas.providers())),
        "region": (
            selection.regions,
            {place.region for place in atlas} | {f"{p.provider}/{p.region}" for p in atlas},
        ),
        "operator": (
            [name.casefold() for name in selection.operators],
            {name.casefold() for p in atlas for name in (p.operator, p.parent) if name},
        ),
    }
    wrong = [
        f"no {kind} is called {name!r}{_nearest(name, known)}"
        for kind, (listed, known) in names.items()
        for name in listed
        if name not in known
    ]
    for code in selection.countries:
        if code in MISTAKEN:
            wrong.append(f"{code!r} is no ISO 3166 code, did you mean {MISTAKEN[code]}?")
        elif not _is_country(code) or code in _UNKNOWN:
            wrong.append(f"{code!r} is no country, write two capitals (DE)")
    return wrong


MISTAKEN = {"UK": "GB", "EL": "GR"}
"""What is written for a country -> its ISO 3166 code."""


def _nearest(name: str, known: set[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(known), n=1)
    return f", did you mean {near[0]}?" if near else ""
