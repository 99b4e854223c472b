"""What servers make, and what it costs, over HTTP and on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from api_world import SERVICE, World, make_world

from arbiter.api.answers import service_named
from arbiter.counters import Counters, Window
from arbiter.demo.screen import pace
from arbiter.store.served import Reading, write_reading


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path)
    made.poll()
    made.launch()
    yield made
    made.store.close()


def made(world: World, tokens: int, prompt_tokens: int, seconds: float = 50) -> None:
    """The replica made so many tokens up to now."""
    (replica,) = world.sources.snapshot().replicas
    now = world.clock.now()
    counters = Counters(now, 3, 2, tokens, prompt_tokens, 0.5)
    with world.store.begin() as connection:
        first = Reading(replica.cluster, SERVICE, counters, None)
        write_reading(connection, first, None)
        past = Window(seconds, tokens, prompt_tokens, saturated=False)
        write_reading(
            connection, Reading(replica.cluster, SERVICE, counters, tokens / seconds), past
        )


def an_hour(world: World) -> None:
    made(world, 0, 0)
    world.clock.advance(3600)
    world.poll()
    made(world, 900_000, 600_000, seconds=300)


def test_a_service_says_what_its_tokens_have_cost(world: World) -> None:
    shape = world.client.get(f"/api/v1/services/{SERVICE}").json()
    assert {shape[key] for key in ("tokens_per_s", "requests_running", "usd_per_mtok")} == {None}
    an_hour(world)
    shape = world.client.get(f"/api/v1/services/{SERVICE}").json()
    assert (shape["tokens_per_s"], shape["requests_running"], shape["requests_waiting"]) == (
        3000.0, 3, 2,
    )  # fmt: skip
    assert shape["served_tokens"] == 900_000
    hourly = float(shape["replicas"][0]["price_usd_hour"])
    assert float(shape["usd_per_mtok"]) == pytest.approx(hourly / 0.9, rel=0.01)


def test_figures_for_prometheus_have_the_names_of_others_where_they_mean_the_same(
    world: World,
) -> None:
    before = world.client.get("/metrics").text
    assert "arbiter_tokens_per_second{" not in before
    assert "llm_cost_per_million_tokens{" not in before
    an_hour(world)
    lines = world.client.get("/metrics").text.splitlines()
    figures = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"
    }
    labelled = {name: value for name, value in figures.items() if name.startswith("llm_")}
    assert len(labelled) == 2, labelled
    assert figures[f'arbiter_tokens_per_second{{service="{SERVICE}"}}'] == 3000
    assert figures[f'arbiter_requests_running{{service="{SERVICE}"}}'] == 3
    assert figures[f'arbiter_requests_waiting{{service="{SERVICE}"}}'] == 2
    output = figures[f'arbiter_dollars_per_million_tokens{{service="{SERVICE}"}}']
    (both,) = (value for name, value in labelled.items() if name.startswith("llm_cost"))
    assert both == pytest.approx(output * 0.9 / 1.5, rel=0.01)
    for name in labelled:
        assert f'model_name="{SERVICE}"' in name
        assert 'cost_basis="allocation"' in name


def test_the_page_shows_it(world: World) -> None:
    assert "output tokens/s" not in world.client.get("/").text
    an_hour(world)
    page = world.client.get("/").text
    assert "3 running, 2 waiting; 3000.0 output tokens/s" in page
    assert "per million served in the last hour" in page


def test_the_demo_says_it_once_servers_tell(world: World) -> None:
    def line() -> str:
        return pace(service_named(world.sources.parts, world.sources.snapshot(), SERVICE))

    assert line() == ""
    an_hour(world)
    assert line().startswith("3000 tokens/s at ")
    assert line().endswith(" USD per million, ")


def test_an_old_reading_is_not_now(world: World) -> None:
    an_hour(world)
    world.clock.advance(timedelta(minutes=2).total_seconds())
    shape = world.client.get(f"/api/v1/services/{SERVICE}").json()
    assert shape["tokens_per_s"] is None
    assert shape["usd_per_mtok"] is not None
