"""What arbiter answers over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from api_world import MARKET, SERVICE, World, make_world

from arbiter.errors import Unreachable
from arbiter.money import Price
from arbiter.provider import Parsed, Signal
from arbiter.scaling import Load, Scaling
from arbiter.service_hours import ScheduleWindow
from arbiter.store import fleet, journal
from arbiter.store.rates import Published, write_rates
from arbiter.store.scaling import keep_load
from arbiter.store.signals import write_signals
from arbiter.store.turns import Turn, write_turn
from arbiter.testing import priced


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = make_world(tmp_path)
    world.poll()
    yield world
    world.store.close()


def get(world: World, path: str, status: int = 200) -> Any:
    answer = world.client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


# --- offers ---------------------------------------------------------------------------------


def test_offers_of_a_model_come_cheapest_first_with_every_refusal(world: World) -> None:
    answer = get(world, "/api/v1/offers?model=llama8b")
    prices = [offer["price_usd_hour"] for offer in answer["offers"]]
    assert prices == ["0.3", "0.44", "0.85"]
    assert answer["offers"][0]["country"] == "SE"
    assert [one["rule"] for one in answer["refused"]] == ["country_outside_eu"]
    assert answer["refused_by_rule"] == {"country_outside_eu": 1}
    assert answer["policy"]["sovereignty"] == "eu"
    assert answer["degraded"] == []
    assert answer["simulated"] is False


def test_the_level_gpu_purchase_and_limit_of_offers_can_be_asked_for(world: World) -> None:
    assert get(world, "/api/v1/offers?model=llama8b&sovereignty=any")["eligible"] == 4
    assert get(world, "/api/v1/offers?model=llama8b&purchase=on_demand")["eligible"] == 1
    assert get(world, "/api/v1/offers?model=llama8b&gpu=h100")["offers"] == []
    limited = get(world, "/api/v1/offers?model=llama8b&limit=1&refused=false")
    assert (len(limited["offers"]), limited["eligible"], limited["refused"]) == (1, 3, [])


def test_offers_without_a_model_are_not_sized(world: World) -> None:
    answer = get(world, "/api/v1/offers?sovereignty=any")
    assert [one["price_usd_hour"] for one in answer["offers"]] == ["0.1", "0.3", "0.44", "0.85"]
    assert answer["offers"][0]["usd_per_mtok"] is None


def test_a_provider_that_fails_shows_as_degraded_and_keeps_its_offers(world: World) -> None:
    world.provider.fails(Unreachable("aws does not answer"))
    world.poll()
    answer = get(world, "/api/v1/offers?model=llama8b")
    assert answer["eligible"] == 3
    assert answer["degraded"] == [{"provider": "aws", "reason": "aws does not answer"}]
    health = get(world, "/healthz")
    assert health["status"] == "degraded"
    assert health["reasons"] == ["aws failed: aws does not answer"]


def test_the_json_of_offers_is_that_of_the_command_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from arbiter.cli import run
    from arbiter.cli.app import App

    config = tmp_path / "arbiter.toml"
    config.write_text(
        f'database_url = "sqlite:///{tmp_path / "arbiter.db"}"\nexecutor = "local"\n',
        encoding="utf-8",
    )
    assert run(["--config", str(config), "offers", SERVICE, "--json"], App(world.clock)) == 0
    printed = json.loads(capsys.readouterr().out)
    answered = get(world, f"/api/v1/offers?model={SERVICE}")
    assert {key: answered[key] for key in printed} == printed


# --- fleet and journal ----------------------------------------------------------------------


def test_a_service_shows_its_replicas_and_what_on_demand_would_cost(world: World) -> None:
    world.launch(replicas=2)
    [service] = get(world, "/api/v1/services")["services"]
    assert (service["target"], service["healthy"]) == (2, 2)
    paid = sum(Decimal(one["price_usd_hour"]) for one in service["replicas"])
    assert Decimal(service["usd_hour"]) == paid
    assert Decimal(service["on_demand_usd_hour"]) == Decimal("1.70")
    assert get(world, f"/api/v1/services/{SERVICE}") == service


def test_decisions_and_events_are_told_as_sentences(world: World) -> None:
    world.launch()
    decisions = get(world, "/api/v1/decisions")["decisions"]
    first = decisions[-1]
    assert first["sentence"].startswith(f"{SERVICE}: chose aws/eu-north-1/eun1-az1")
    whole = get(world, f"/api/v1/decisions/{first['id'][:8]}")
    assert whole["id"] == first["id"]
    assert whole["refused_by_rule"] == {"country_outside_eu": 1}
    assert [one["state"] for one in whole["actions"]] == ["done"]
    assert get(world, "/api/v1/decisions?service=other")["decisions"] == []
    events = get(world, "/api/v1/events")
    assert "healthy" in [one["kind"] for one in events["events"]]
    assert get(world, f"/api/v1/events?after={events['last_id']}") == {
        "simulated": False,
        "last_id": events["last_id"],
        "events": [],
    }


def test_a_preview_changes_nothing(world: World) -> None:
    plan = get(world, f"/api/v1/plan?model={SERVICE}")
    assert [action["kind"] for action in plan["actions"]] == ["launch"]
    assert plan["id"] is None
    assert get(world, "/api/v1/decisions")["decisions"] == []
    assert world.executor.calls == []


def test_prices_over_time_are_columns_of_equal_length(world: World) -> None:
    world.clock.advance(600)
    world.provider.sells([priced("eu-north-1", "0.20", zone="eun1-az1"), *MARKET[1:]])
    world.poll()
    history = get(world, f"/api/v1/prices?model={SERVICE}&top=2")
    assert [len(one["usd_hour"]) for one in history["series"]] == [len(history["t"])] * 2
    spot = history["series"][0]
    assert spot["label"] == "aws/eu-north-1/eun1-az1 1x L4 spot"
    assert (spot["usd_hour"][0], spot["usd_hour"][-1]) == (0.3, 0.2)
    assert history["t"] == sorted(history["t"])


def test_the_past_of_an_offer_in_euros_is_drawn_in_dollars(world: World) -> None:
    dollars, *others = MARKET
    euros = replace(dollars, price=Price.of("0.10", "EUR"))
    world.provider.sells([euros, *others])
    today = world.clock.now().date()
    with world.store.begin() as connection:
        write_rates(connection, [Published("USD", today, 1_500_000)], "ECB", world.clock.now())
    world.poll()
    world.clock.advance(600)
    (drawn,) = get(world, f"/api/v1/prices?model={SERVICE}&top=1")["series"]
    assert drawn["usd_hour"][-1] == 0.15


def test_a_probe_may_add_what_it_likes(world: World) -> None:
    assert world.client.get("/healthz?probe=1").status_code == 200
    assert world.client.get("/metrics?t=1").status_code == 200


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1/services/nope", 404, "no service is called 'nope'"),
        ("/api/v1/decisions/nope", 404, "no decision begins with 'nope'"),
        ("/api/v1/decisions/%25", 404, "no decision begins"),
        ("/api/v1/offers?sovereignity=any", 400, "did you mean sovereignty?"),
        ("/api/v1/services/llama8b?x=1", 400, "there is no parameter 'x'; there are none"),
        ("/api/v1/offers?model=lama8b", 404, "did you mean llama8b"),
        ("/api/v1/offers?model=../../x", 404, "there is no profile"),
        ("/api/v1/offers?model=llama8b&sovereignty=moon", 404, "moon"),
        ("/api/v1/offers?model=llama8b&limit=-1", 422, "limit"),
        ("/api/v1/offers?purchase=stolen", 422, "purchase"),
        ("/api/v1/events?after=99999999999999999999999", 422, "after"),
        ("/api/v1/prices?model=llama8b&hours=nan", 422, "hours"),
        ("/api/v1/plan", 422, "model"),
        ("/nowhere", 404, "there is nothing at /nowhere"),
    ],
)
def test_a_wrong_question_is_answered_with_one_line(
    world: World, path: str, status: int, says: str
) -> None:
    answer = get(world, path, status)
    assert list(answer) == ["error"]
    assert says in answer["error"]
    assert "\n" not in answer["error"]


def test_nothing_can_be_changed_over_http(world: World) -> None:
    answer = world.client.request("POST", "/api/v1/services")
    assert (answer.status_code, list(answer.json())) == (405, ["error"])


# --- the guard ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_a_name_that_is_not_ours_is_turned_away(world: World, host: str) -> None:
    answer = world.client.get("/api/v1/services", headers={"host": host})
    assert (answer.status_code, list(answer.json())) == (421, ["error"])


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8400", "127.0.0.1:8400", "[::1]:8400", "10.0.0.7"]
)
def test_our_own_names_and_every_address_pass(world: World, host: str) -> None:
    assert world.client.get("/api/v1/services", headers={"host": host}).status_code == 200


def test_a_name_can_be_allowed(tmp_path: Path) -> None:
    world = make_world(tmp_path, names=("Arbiter.Internal",))
    headers = {"host": "arbiter.internal:443"}
    assert world.client.get("/healthz", headers=headers).status_code == 200


def test_every_answer_forbids_foreign_scripts_and_reading_by_other_pages(world: World) -> None:
    for path in ("/", "/board", "/api/v1/services", "/static/arbiter.js", "/nowhere"):
        headers = world.client.get(path, headers={"origin": "https://evil.example"}).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


# --- health ---------------------------------------------------------------------------------


def test_health_is_ok_while_ticks_end(world: World) -> None:
    world.launch()
    health = get(world, "/healthz")
    assert (health["status"], health["reasons"]) == ("ok", [])
    assert health["last_tick_age_s"] == 5.0


def test_a_loop_that_has_died_asks_for_a_restart(world: World) -> None:
    world.launch()
    world.pulse.started("tick", world.clock.now())
    world.clock.advance(100)
    late = get(world, "/healthz")
    assert late["status"] == "degraded"
    assert "the tick has been running for 100 s" in late["reasons"]
    world.clock.advance(900)
    assert get(world, "/healthz", 503)["status"] == "dead"


def test_a_tick_that_fails_is_named_and_does_not_ask_for_a_restart(world: World) -> None:
    world.clock.advance(2000)
    world.pulse.ended("tick", world.clock.now(), "the disk is full")
    health = get(world, "/healthz")
    assert health["status"] == "degraded"
    assert "tick failed: the disk is full" in health["reasons"]


def test_a_database_that_is_gone_is_a_reason_and_not_a_traceback(
    world: World, tmp_path: Path
) -> None:
    world.store.close()
    for file in tmp_path.glob("arbiter.db*"):
        file.unlink()
    (tmp_path / "arbiter.db").mkdir()
    assert get(world, "/healthz")["status"] == "degraded"
    assert "unable to open" in get(world, "/api/v1/services", 503)["error"]
    assert "unable to open" in world.client.get("/").text
    assert "arbiter_store_up 0.0" in world.client.get("/metrics").text


# --- price sources ----------------------------------------------------------------------------


def test_the_price_sources_say_how_they_do_and_what_is_held_back(world: World) -> None:
    world.provider.sells([priced("eu-north-1", "90.00", zone="eun1-az1"), *MARKET[1:]])
    world.clock.advance(300)
    world.poll()
    answer = get(world, "/api/v1/providers")
    (source,) = answer["providers"]
    assert (source["provider"], source["state"], source["held_back"]) == ("aws", "degraded", 1)
    assert source["circuit"] is None, "no daemon has polled it"
    (doubt,) = answer["quarantine"]
    assert (doubt["region"], doubt["purchase"], doubt["prices"]) == ("eu-north-1", "spot", 1)
    assert doubt["ended_at"] is None
    metrics = world.client.get("/metrics").text
    assert 'arbiter_prices_held_back{provider="aws"} 1.0' in metrics

    world.provider.sells(MARKET)
    world.poll()
    assert get(world, "/api/v1/providers")["quarantine"] == []
    assert len(get(world, "/api/v1/providers?ended=true")["quarantine"]) == 1


def test_the_polling_of_a_source_is_in_the_metrics(world: World) -> None:
    later = world.clock.now() + timedelta(seconds=60)
    with world.store.begin() as connection:
        write_turn(connection, Turn("aws", "open", 6, next_at=later))
    assert get(world, "/api/v1/providers")["providers"][0]["failures"] == 6
    metrics = world.client.get("/metrics").text
    assert 'arbiter_poll_circuit_open{provider="aws"} 1.0' in metrics
    assert 'arbiter_poll_failures{provider="aws"} 6.0' in metrics
    assert 'arbiter_poll_next_timestamp_seconds{provider="aws"}' in metrics


def test_signals_can_be_narrowed(world: World) -> None:
    said = [
        Signal("stock", "", region, None, "g6.xlarge", None, text="HIGH")
        for region in ("eu-north-1", "eu-west-1")
    ]
    with world.store.begin() as connection:
        parsed = Parsed((), (), frozenset(), said, frozenset({"stock"}))
        write_signals(connection, "runpod", parsed, world.clock.now())
    assert len(get(world, "/api/v1/signals")["signals"]) == 2
    (one,) = get(world, "/api/v1/signals?region=eu-west-1&provider=runpod")["signals"]
    assert (one["text"], one["low"], one["purchase"]) == ("HIGH", None, None)


# --- metrics --------------------------------------------------------------------------------


def test_metrics_are_few_and_in_openmetrics(world: World) -> None:
    world.launch(replicas=2)
    world.metrics.ticked(0.2)
    answer = world.client.get("/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    lines = answer.text.splitlines()
    assert lines[-1] == "# EOF"
    assert 'arbiter_replicas{service="llama8b",state="healthy"} 2.0' in lines
    assert 'arbiter_degraded{provider="aws"} 0.0' in lines
    assert 'arbiter_offer_price_dollars_per_hour{purchase="spot",service="llama8b"} 0.3' in [
        line.replace('service="llama8b",purchase="spot"', 'purchase="spot",service="llama8b"')
        for line in lines
    ]
    assert any(line.startswith('arbiter_decisions_total{service="llama8b"}') for line in lines)
    assert any(line.startswith('arbiter_poll_seconds_count{provider="aws"} 1') for line in lines)
    assert "eu-north-1" not in answer.text


def test_how_soon_losses_were_noticed_is_a_histogram(world: World) -> None:
    with world.store.begin() as connection:
        for within_s in (0.4, 3.0, None):
            now = world.sources.parts.clock.now()
            journal.add_event(connection, now, "spot_reclaimed", "it was", within_s=within_s)
    lines = world.client.get("/metrics").text.splitlines()
    name = "arbiter_loss_detection_seconds"
    assert f'{name}_bucket{{kind="spot_reclaimed",le="0.5"}} 1.0' in lines
    assert f'{name}_bucket{{kind="spot_reclaimed",le="5.0"}} 2.0' in lines
    assert f'{name}_count{{kind="spot_reclaimed"}} 2.0' in lines
    assert f'{name}_sum{{kind="spot_reclaimed"}} 3.4' in lines


# --- the page -------------------------------------------------------------------------------


def test_the_page_is_complete_without_a_script(world: World) -> None:
    world.launch()
    page = world.client.get("/").text
    for text in ("aws/eu-north-1/eun1-az1", "chose", "65 %", "1 by country outside eu", "$0.300"):
        assert text in page
    assert "<script>" not in page
    assert " style=" not in page
    assert "//" not in page.replace("http://fake", "").replace("http://", "").split("<body>")[0]
    assert "Simulated" not in page


def test_what_a_provider_says_is_never_markup(world: World) -> None:
    world.provider.sells(MARKET, degraded=['<script>alert("x")</script>'])
    world.poll()
    for path in ("/", "/board"):
        page = world.client.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_an_empty_arbiter_says_what_to_type(tmp_path: Path) -> None:
    page = make_world(tmp_path).client.get("/").text
    assert "arbiter launch MODEL" in page
    assert "No provider was polled yet." in page


def test_what_a_service_follows_is_told_by_the_api_and_the_page(world: World) -> None:
    world.poll()
    world.launch()
    window = ScheduleWindow.parse("mon-fri 08:00-20:00 Europe/Berlin = 2")
    scaling = Scaling(0, 3, (window,), idle_s=600, hold_s=120)
    now = world.clock.now()
    with world.store.begin() as connection:
        fleet.scale(connection, SERVICE, 0, scaling, now)
        keep_load(connection, SERVICE, Load(now, now, 5, 70), timedelta(minutes=8))
    (shape,) = world.client.get("/api/v1/services").json()["services"]
    assert (shape["target"], shape["requests"]) == (0, 5)
    assert shape["scaling"] == {
        "min": 0,
        "max": 3,
        "schedule": ["mon-fri 08:00-20:00 Europe/Berlin = 2"],
        "requests_per_replica": None,
        "idle_s": 600.0,
        "hold_s": 120.0,
    }
    page = world.client.get("/").text
    assert "at zero" in page
    assert "0 to 3 replicas by load, to 0 after 600 s without a request" in page
    assert "requests wait up to 120 s for the first one; 5 in flight" in page


def test_what_is_simulated_says_so_on_the_page_and_in_every_answer(tmp_path: Path) -> None:
    world = make_world(tmp_path, simulated=True)
    world.poll()
    world.launch()
    assert "<strong>Simulated.</strong>" in world.client.get("/").text
    paths = ("services", "decisions", "events", "offers?model=llama8b", "plan?model=llama8b")
    for path in paths:
        answer = world.client.get(f"/api/v1/{path}")
        assert answer.json()["simulated"] is True
        assert answer.headers["x-arbiter-simulated"] == "true"
    assert 'simulated="true"' in world.client.get("/metrics").text


def test_openapi_names_every_path_and_shape(world: World) -> None:
    schema = get(world, "/openapi.json")
    assert set(schema["paths"]) == {
        "/healthz",
        "/metrics",
        "/api/v1/offers",
        "/api/v1/prices",
        "/api/v1/prices/history",
        "/api/v1/prices/stats",
        "/api/v1/prices/below",
        "/api/v1/prices/index",
        "/api/v1/prices/changes",
        "/api/v1/prices/seasonality",
        "/api/v1/prices/as-of",
        "/api/v1/plan",
        "/api/v1/providers",
        "/api/v1/signals",
        "/api/v1/services",
        "/api/v1/services/{name}",
        "/api/v1/decisions",
        "/api/v1/decisions/{decision_id}",
        "/api/v1/events",
    }
    assert "OffersShape" in schema["components"]["schemas"]
