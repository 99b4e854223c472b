"""The European Central Bank's euro foreign exchange reference rates: fetching and reading them.

Published on working days at about 16:00 CET, for information and not for transactions. Two shapes
are read: the XML of the day, of 90 days or of all days, and the CSV of all days (also as the ZIP
that the bank serves).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from arbiter.errors import BadAnswer, Unreachable
from arbiter.money import MICROS

if TYPE_CHECKING:
    from arbiter.store.rates import Published

SOURCE = "ECB"
ENDPOINT = "https://www.ecb.europa.eu/stats/eurofxref"

FILES = {
    "day": "eurofxref-daily.xml",
    "90d": "eurofxref-hist-90d.xml",
    "all": "eurofxref-hist.xml",
}
"""Span -> file beneath the endpoint."""

_LARGEST = 64 << 20  # bytes; the whole history is about 7 MiB of XML
_NO_RATE = frozenset({"", "N/A"})


def fetch(span: str, endpoint: str | None = None, timeout_s: float = 30.0) -> bytes:
    """One of the bank's files.

    Args:
        span: "day", "90d" or "all".
        endpoint: base URL that takes the place of the bank's.

    Raises:
        Unreachable: no answer, or one that is not 200.
    """
    import httpx

    url = f"{(endpoint or ENDPOINT).rstrip('/')}/{FILES[span]}"
    try:
        answer = httpx.get(url, timeout=timeout_s, follow_redirects=True)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(
            f"the ECB's rates cannot be fetched: {reason}",
            "load a file instead: arbiter prices rates --load FILE",
        ) from error
    if answer.status_code != 200:
        raise Unreachable(f"the ECB answered {answer.status_code} for {url}")
    return answer.content


def parse(body: bytes, name: str = "the file") -> list[Published]:
    """The rates of a file: XML, CSV, or a ZIP of one CSV. Pure.

    Raises:
        BadAnswer: it is none of these, or a rate is no number above 0.
    """
    if body[:2] == b"PK":
        body = _unzipped(body, name)
    start = body.lstrip(b"\xef\xbb\xbf \r\n\t")[:1]
    found = list(_of_xml(body, name) if start == b"<" else _of_csv(body, name))
    if not found:
        raise BadAnswer(
            f"{name} holds no reference rates", "expected the ECB's eurofxref XML or CSV"
        )
    return found


def _unzipped(body: bytes, name: str) -> bytes:
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            member = archive.infolist()[0]
            if member.file_size > _LARGEST:
                raise BadAnswer(f"{name} unpacks to {member.file_size} bytes", "expected 8 MB")
            return archive.read(member)
    except (zipfile.BadZipFile, IndexError) as error:
        raise BadAnswer(f"{name} is a broken ZIP file") from error


def _of_xml(body: bytes, name: str) -> Iterator[Published]:
    if re.match(rb"\s*<(!doctype\s+)?html", body, re.IGNORECASE):
        raise BadAnswer(
            f"{name} is a page of HTML", "a proxy may have answered; look at the endpoint"
        )
    if b"<!DOCTYPE" in body[:4096] or b"<!ENTITY" in body[:4096]:
        raise BadAnswer(f"{name} declares entities, which the ECB's files do not")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 (entities are refused above)
    except ElementTree.ParseError as error:
        raise BadAnswer(f"{name} is no XML: {error}") from error
    for group in root.iter():
        day = group.get("time")
        if day is not None:
            for cube in group:
                rate = cube.get("rate")
                if rate is not None:
                    yield _published(cube.get("currency", ""), day, rate, name)


def _of_csv(body: bytes, name: str) -> Iterator[Published]:
    try:
        rows = csv.reader(io.StringIO(body.decode("utf-8-sig")))
        header = [cell.strip() for cell in next(rows, [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadAnswer(f"{name} is neither XML nor CSV") from error
    if not header or header[0] != "Date":
        raise BadAnswer(f"{name} does not begin with a column Date", "expected eurofxref-hist.csv")
    for row in rows:
        cells = [cell.strip() for cell in row]
        for currency, rate in zip(header[1:], cells[1:], strict=False):
            if currency and rate not in _NO_RATE:
                yield _published(currency, cells[0], rate, name)


def _published(currency: str, day: str, rate: str, name: str) -> Published:
    from arbiter.store.rates import Published

    try:
        when, amount = date.fromisoformat(day), Decimal(rate)
        micros = int((amount * MICROS).to_integral_value())
    except (ValueError, InvalidOperation, OverflowError):
        micros = 0
    if micros <= 0 or len(currency) != 3:
        raise BadAnswer(f"{name} gives {rate!r} {currency!r} for {day!r}, which is no rate")
    return Published(currency, when, micros)
