"""Scaleway: paged by a header, prices and stock per zone, and what is said when they fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loopback import RECORDINGS, Answer, LoopbackServer, Request, as_json

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, RateLimited
from arbiter.money import Price
from arbiter.provider import Fetched, Page, Parsed, Provider, ProviderSettings
from arbiter.testing import FakeClock, ProviderContract
from arbiter_providers._regions import european_regions
from arbiter_providers.scaleway import Scaleway

NOW = datetime(2026, 11, 10, tzinfo=UTC)
ZONE = "fr-par-2"


def recorded(name: str) -> bytes:
    return (RECORDINGS / "scaleway" / f"{ZONE}-{name}.json").read_bytes()


def page(feed: str, body: bytes, total: int | None = 10, zone: str = ZONE) -> Page:
    return Page(feed, zone, {"answer": body, "total": total})


def recording() -> Fetched:
    servers = [page("servers", recorded(name)) for name in ("servers-1", "servers-2")]
    return Fetched((*servers, page("stock", recorded("stock"))))


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Scaleway(settings)

    def recording(self) -> Fetched:
        return recording()


def parse(fetched: Fetched) -> Parsed:
    return Scaleway(ProviderSettings()).parse(fetched, NOW)


def prices(parsed: Parsed) -> dict[str, tuple[str, int, Price]]:
    return {one.instance_type: (one.gpu, one.gpu_count, one.price) for one in parsed.offers}


def test_prices_are_euros_per_machine_under_the_vocabulary_s_names() -> None:
    assert prices(parse(recording())) == {
        "H100-1-80G": ("H100-PCIe", 1, Price.of("2.8665", "EUR")),
        "H100-SXM-2-80G": ("H100", 2, Price.of("6.6198", "EUR")),
        "GPU-3070-S": ("RTX-3070", 1, Price.of("0.98", "EUR")),
        "L40S-1-48G": ("L40S", 1, Price.of("1.469916", "EUR")),
        "L4-1-24G": ("L4", 1, Price.of("0.7875", "EUR")),
        "RENDER-S": ("P100", 1, Price.of("1.221", "EUR")),
    }


def test_what_is_not_a_whole_gpu_on_sale_is_left_out_for_a_reason() -> None:
    reasons = Counter(skip.reason for skip in parse(recording()).skips)
    assert reasons == {"not a GPU machine": 2, "a fraction of a GPU": 1, "no longer sold": 1}


def test_a_zone_is_a_region_and_there_is_no_spot() -> None:
    parsed = parse(recording())
    assert {(one.region, one.zone, one.purchase) for one in parsed.offers} == {
        (ZONE, None, Purchase.ON_DEMAND)
    }
    assert parsed.covered == {(ZONE, Purchase.ON_DEMAND)}


def test_stock_is_a_word_and_only_for_what_is_offered() -> None:
    parsed = parse(recording())
    assert {one.instance_type: one.text for one in parsed.signals} == {
        "H100-1-80G": "shortage",
        "H100-SXM-2-80G": "available",
        "GPU-3070-S": "shortage",
        "L40S-1-48G": "scarce",
        "L4-1-24G": "available",
        "RENDER-S": "available",
    }
    assert {(one.kind, one.low, one.high, one.region) for one in parsed.signals} == {
        ("stock", None, None, ZONE)
    }
    assert parsed.signal_kinds == {"stock"}


def test_without_stock_there_are_prices_and_no_word_on_stock() -> None:
    parsed = parse(Fetched(recording().pages[:2], ("fr-par-2: stock, failed",)))
    assert len(parsed.offers) == 6
    assert (parsed.signals, parsed.signal_kinds) == ([], frozenset())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hourly_price": 0}, "price is 0"),
        ({"hourly_price": None}, "row without hourly_price"),
        ({"hourly_price": -1}, "price is negative"),
        ({"hourly_price": "soon"}, "row of the wrong shape"),
        ({"hourly_price": 1e9}, "price is above"),
        ({"gpu": -1}, "GPU machine that does not tell its GPU"),
        ({"gpu": "two"}, "row of the wrong shape"),
        ({"gpu_info": None}, "GPU machine that does not tell its GPU"),
        ({"gpu_info": {"gpu_name": ""}}, "GPU machine that does not tell its GPU"),
    ],
)
def test_a_malformed_row_is_counted_and_harms_no_other(change: dict[str, Any], reason: str) -> None:
    body = json.loads(recorded("servers-1"))
    body["servers"]["H100-1-80G"] |= change
    parsed = parse(Fetched((page("servers", json.dumps(body).encode(), 4),)))
    assert {"H100-SXM-2-80G", "GPU-3070-S"} == set(prices(parsed))
    (wrong,) = (skip for skip in parsed.skips if skip.malformed)
    assert wrong.reason.startswith(reason)


def test_a_gpu_beside_another_processor_keeps_its_own_name() -> None:
    body = json.loads(recorded("servers-1"))
    body["servers"] = {"GH200-1": body["servers"]["H100-SXM-2-80G"] | {"arch": "arm64"}}
    assert prices(parse(Fetched((page("servers", json.dumps(body).encode(), 1),)))) == {
        "GH200-1": ("H100-SXM (arm64)", 2, Price.of("6.6198", "EUR"))
    }


@pytest.mark.parametrize(("total", "complete"), [(4, True), (10, False), (None, True)])
def test_a_zone_is_covered_only_when_every_row_is_there(total: int | None, complete: bool) -> None:
    parsed = parse(Fetched((page("servers", recorded("servers-1"), total),)))
    assert parsed.covered == ({(ZONE, Purchase.ON_DEMAND)} if complete else frozenset())


# --- asking ---------------------------------------------------------------------------------


def fetch(server: LoopbackServer, *zones: str, attempts: int = 1) -> Fetched:
    settings = ProviderSettings(
        endpoint=server.url, regions=zones, timeout_s=5.0, max_attempts=attempts
    )
    return Scaleway(settings, clock=FakeClock()).fetch(lambda _: None)


def paged(rows: dict[str, Any], size: int, counted: bool = True) -> Callable[[Request], Answer]:
    """A list in pages of a size that the server chooses, whatever size was asked for."""

    def answer(request: Request) -> Answer:
        first = (int(request.query["page"]) - 1) * size
        names = list(rows)[first : first + size]
        headers = {"X-Total-Count": str(len(rows))} if counted else {}
        return as_json({"servers": {name: rows[name] for name in names}}, **headers)

    return answer


def gpus(count: int) -> dict[str, Any]:
    sound = json.loads(recorded("servers-1"))["servers"]["H100-SXM-2-80G"]
    return {f"H100-SXM-{number}": sound for number in range(count)}


def both(
    prices: Callable[[Request], Answer], stock: Callable[[Request], Answer] | None = None
) -> Callable[[Request], Answer]:
    """The two lists of a zone; without the second, an empty stock."""

    def answer(request: Request) -> Answer:
        if request.path.endswith("/availability"):
            return stock(request) if stock else as_json({"servers": {}}, **{"X-Total-Count": "0"})
        return prices(request)

    return answer


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("rows", [3, 50, 70, 100, 107])
def test_all_pages_come_whether_the_rows_are_counted_or_not(
    server: LoopbackServer, rows: int, counted: bool
) -> None:
    server.answer = both(paged(gpus(rows), 50, counted))
    fetched = fetch(server, ZONE)
    assert fetched.degraded == ()
    assert len(parse(fetched).offers) == rows
    assert parse(fetched).covered == {(ZONE, Purchase.ON_DEMAND)}
    asked = [one for one in server.requests if one.path.endswith("/products/servers")]
    assert [one.query["page"] for one in asked] == [str(n + 1) for n in range(len(asked))]
    assert len(asked) <= rows // 50 + 1
    assert asked[0].path == f"/instance/v1/zones/{ZONE}/products/servers"


def test_every_zone_of_the_table_is_asked_by_default(server: LoopbackServer) -> None:
    server.answer = both(paged(gpus(1), 50))
    parsed = parse(fetch(server))
    assert {zone for zone, _ in parsed.covered} == set(european_regions("scaleway"))
    assert {"fr-par-2", "nl-ams-1", "pl-waw-2"} <= {zone for zone, _ in parsed.covered}


def test_the_same_page_again_and_again_ends(server: LoopbackServer) -> None:
    rows = gpus(60)
    server.answer = both(lambda _: as_json({"servers": rows}, **{"X-Total-Count": "99"}))
    fetched = fetch(server, ZONE)
    assert len(server.requests) == 3
    assert fetched.degraded == (f"{ZONE}: the pages of servers do not end",)
    assert parse(fetched).covered == frozenset()
    assert len(parse(fetched).offers) == 60


def test_a_zone_that_fails_leaves_the_others_unharmed(server: LoopbackServer) -> None:
    def answer(request: Request) -> Answer:
        bad = "it-mil-1" in request.path
        return Answer(b"<html>busy</html>") if bad else paged(gpus(1), 50)(request)

    server.answer = both(answer)
    fetched = fetch(server, ZONE, "it-mil-1")
    assert len(fetched.degraded) == 1
    assert fetched.degraded[0].startswith("it-mil-1: scaleway: a page of machine types")
    assert {zone for zone, _ in parse(fetched).covered} == {ZONE}
    assert parse(fetched).signal_kinds == frozenset()


def test_without_stock_the_poll_still_counts(server: LoopbackServer) -> None:
    server.answer = both(paged(gpus(2), 50), lambda _: Answer(status=404))
    fetched = fetch(server, ZONE)
    assert [note.split(" http")[0] for note in fetched.degraded] == [f"{ZONE}: stock, scaleway:"]
    assert len(parse(fetched).offers) == 2


def test_no_zone_at_all_is_an_error(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(status=429)
    with pytest.raises(RateLimited):
        fetch(server, ZONE, "nl-ams-1", attempts=2)
    server.answer = lambda _: Answer(b"<html>")
    with pytest.raises(BadAnswer, match="not JSON"):
        fetch(server, ZONE)


@pytest.mark.parametrize(
    ("zone", "files", "gpus_sold", "h100"),
    [
        ("fr-par-1", ("fr-par1_1", "fr-par1_2", "fr-par1_3"), 5, None),
        (
            "fr-par-2",
            tuple(f"frpar2_data-source-server-type-compare-with-pcu_{n}" for n in (78, 79, 80)),
            17,
            Decimal("6.6198"),
        ),
        ("nl-ams-2", ("nl-ams2_1", "nl-ams2_2"), 0, None),
    ],
)
def test_recorded_zones(
    shared_recordings: Path,
    zone: str,
    files: tuple[str, ...],
    gpus_sold: int,
    h100: Decimal | None,
) -> None:
    bodies = [(shared_recordings / "scaleway" / f"{name}.json").read_bytes() for name in files]
    parsed = parse(Fetched(tuple(Page("servers", zone, body) for body in bodies)))
    assert len(parsed.offers) == gpus_sold
    assert not [skip for skip in parsed.skips if skip.malformed]
    assert parsed.covered == {(zone, Purchase.ON_DEMAND)}
    if h100 is not None:
        assert prices(parsed)["H100-SXM-2-80G"] == ("H100", 2, Price.of(h100, "EUR"))


def test_it_is_recorded_and_refused_as_not_launchable(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = both(paged(gpus(1), 50))
    monkeypatch.setenv("ARBITER_PROVIDERS__SCALEWAY__ENDPOINT", server.url)
    monkeypatch.setenv("ARBITER_PROVIDERS__SCALEWAY__REGIONS", ZONE)
    monkeypatch.setenv("ARBITER_DATA_DIR", str(tmp_path))

    def arbiter(*arguments: str) -> str:
        command = [sys.executable, "-m", "arbiter", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    (polled,) = json.loads(arbiter("poll", "scaleway", "--json"))
    assert (polled["state"], polled["offers"]) == ("ok", 1)
    for model in ((), ("llama70b-awq",)):
        answer = json.loads(arbiter("offers", *model, "--refused", "--json"))
        assert answer["offers"] == []
        (refused,) = answer["refused"]
        assert (refused["provider"], refused["region"]) == ("scaleway", ZONE)
        assert refused["rule"] == "not_launchable"
        assert "SkyPilot" in refused["reason"]
