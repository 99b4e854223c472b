"""One world for all end-to-end tests: a simulated AWS, and the SkyPilot that launches on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from commands import arbiter_in
from elsewhere import executor_elsewhere
from simaws.image import NoImage, image
from simaws.world import World, missing, running_world

from arbiter.executors.base import Executor


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world that is up; some 45 s, and two minutes more when its image is not cached yet."""
    needs = missing()
    if needs is not None:
        pytest.skip(needs)
    try:
        image()
    except NoImage as error:
        pytest.skip(str(error))
    with running_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The world at its opening prices, with capacity everywhere; no machine may be left in it."""
    shared_world.open_market()
    yield shared_world
    left = [*shared_world.instances(), *shared_world.instances(stopped=True)]
    for instance in left:
        shared_world.reclaim(instance)
    assert left == [], "machines were left behind"


@pytest.fixture
def executor(world: World) -> Iterator[Executor]:
    """A SkyPilot executor of this world."""
    with executor_elsewhere(world.process_environment()) as made:
        yield made


@pytest.fixture
def arbiter_environment(world: World, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """An arbiter in this world."""
    with arbiter_in(world, tmp_path) as environment:
        yield environment
