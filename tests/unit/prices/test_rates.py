"""Reference rates: read as the bank writes them, applied by the day, never guessed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import ThreadingHTTPServer

import numpy as np
import pytest
from loopback_http import Quiet, listening

from arbiter.errors import BadAnswer, Unreachable
from arbiter.prices import ecb
from arbiter.prices.fx import DAY_S, NoRate, Rates, converted
from arbiter.prices.steps import Steps
from arbiter.store.rates import Published

XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
 xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
 <gesmes:subject>Reference rates</gesmes:subject>
 <Cube>
  <Cube time="2026-10-30">
   <Cube currency="USD" rate="1.1000"/><Cube currency="JPY" rate="160.5"/>
  </Cube>
  <Cube time="2026-10-29"><Cube currency="USD" rate="1.2000"/></Cube>
 </Cube>
</gesmes:Envelope>"""
CSV = b"Date,USD,JPY,CYP,\n2026-10-30,1.1000,160.5,N/A,\n2026-10-29,1.2000,,N/A,\n"
RATES = {
    Published("USD", date(2026, 10, 30), 1_100_000),
    Published("JPY", date(2026, 10, 30), 160_500_000),
    Published("USD", date(2026, 10, 29), 1_200_000),
}


def zipped(body: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("eurofxref-hist.csv", body)
    return held.getvalue()


@pytest.mark.parametrize("body", [XML, CSV, zipped(CSV), b"\xef\xbb\xbf" + CSV])
def test_every_shape_of_the_file_says_the_same(body: bytes) -> None:
    assert set(ecb.parse(body)) == RATES


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "does not begin with a column Date"),
        (b"<a><b>down</b></a>", "holds no reference rates"),
        (b"<!DOCTYPE html><html><body>down</body></html>", "is a page of HTML"),
        (b"\n<HTML><p>", "is a page of HTML"),
        (b"<a><p>", "is no XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a/>', "declares entities"),
        (b"Day,USD\n2026-10-30,1.1\n", "does not begin with a column Date"),
        (b"Date,USD\n", "holds no reference rates"),
        (b"Date,USD\n2026-10-30,-1\n", "gives '-1' 'USD' for '2026-10-30', which is no rate"),
        (b"Date,USD\n2026-10-30,NaN\n", "which is no rate"),
        (b"Date,USD\n30.10.2026,1.1\n", "for '30.10.2026', which is no rate"),
        (b"PK\x03\x04broken", "broken ZIP"),
        (b"\xff\xfe\x00", "neither XML nor CSV"),
    ],
)
def test_what_is_no_such_file_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        ecb.parse(body, "rates.csv")
    assert said in str(refused.value)


@contextmanager
def bank(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(Quiet):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    with listening(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield f"{url}/stats", asked


def test_the_file_of_the_span_is_fetched_from_the_endpoint_that_is_set() -> None:
    with bank(200, XML) as (endpoint, asked):
        assert set(ecb.parse(ecb.fetch("90d", endpoint))) == RATES
    assert asked == ["/stats/eurofxref-hist-90d.xml"]


def test_a_bank_that_fails_is_told_in_one_line() -> None:
    with bank(503, b"") as (endpoint, _), pytest.raises(Unreachable, match="the ECB answered 503"):
        ecb.fetch("day", endpoint)
    with pytest.raises(Unreachable, match="prices rates --load FILE"):
        ecb.fetch("day", "http://127.0.0.1:9")


# --- conversion -----------------------------------------------------------------------------

THURSDAY = date(2026, 10, 29).toordinal() - date(1970, 1, 1).toordinal()
KNOWN = Rates(
    {"USD": [(date(2026, 10, 29), 1_200_000), (date(2026, 10, 30), 1_100_000)],
     "GBP": [(date(2026, 10, 29), 800_000)]},
    "ECB",
)  # fmt: skip


def standing(days: int, micros: int = 1_320_000, lines: int = 1) -> Steps:
    """A price that stands from Thursday on."""
    line = np.arange(lines, dtype=np.int64)
    begin = np.full(lines, THURSDAY * DAY_S)
    return Steps(line, begin, begin + days * DAY_S, np.full(lines, micros))


def test_each_day_has_its_own_rate_and_a_weekend_fridays() -> None:
    steps, used = converted(standing(4), ["USD"], [1], "EUR", KNOWN)
    assert steps.micros.tolist() == [1_100_000, 1_200_000, 1_200_000, 1_200_000]
    assert used is not None
    assert (used.source, used.currencies, used.to) == ("ECB", ("USD",), "EUR")
    assert (used.first_day, used.last_day) == (date(2026, 10, 29), date(2026, 10, 30))


def test_the_other_way_and_across_two_currencies() -> None:
    to_dollars, _ = converted(standing(1), ["EUR"], [1], "USD", KNOWN)
    assert to_dollars.micros.tolist() == [1_584_000]
    to_pounds, _ = converted(standing(1), ["USD"], [1], "GBP", KNOWN)
    assert to_pounds.micros.tolist() == [880_000]


def test_prices_in_the_currency_asked_for_need_no_rate_and_stay_whole() -> None:
    steps, used = converted(standing(4), ["EUR"], [1], "EUR", Rates({}))
    assert (steps.micros.tolist(), used) == ([1_320_000], None)


def test_rounding_happens_once_half_to_even() -> None:
    shared, _ = converted(standing(1, 5, 2), ["USD", "USD"], [2, 10], "USD", Rates({}))
    assert shared.micros.tolist() == [2, 0]
    both, _ = converted(standing(1, 6), ["USD"], [4], "EUR", KNOWN)
    assert both.micros.tolist() == [1]  # 6 / 4 / 1.2 = 1.25; rounded on the way it were 2 / 1.2


@pytest.mark.parametrize(
    ("currency", "days", "said"),
    [
        ("CHF", 1, "no reference rate of CHF is stored; run: arbiter prices rates --fetch"),
        ("USD", 12, "no reference rate of USD is stored for 2026-11-07, the newest before it"),
    ],
)
def test_a_rate_that_is_missing_or_old_is_not_guessed(currency: str, days: int, said: str) -> None:
    with pytest.raises(NoRate) as refused:
        converted(standing(days), [currency], [1], "EUR", KNOWN)
    assert said in str(refused.value)


def test_no_rate_is_taken_from_after_the_day() -> None:
    late = Rates({"USD": [(date(2026, 10, 30), 1_100_000)]})
    with pytest.raises(NoRate, match="for 2026-10-29, the first is of 2026-10-30"):
        converted(standing(1), ["USD"], [1], "EUR", late)
