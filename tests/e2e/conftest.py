"""One world for all end-to-end tests: a simulated AWS, and the SkyPilot that launches on it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
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
    left = shared_world.instances()
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
    """The environment of an arbiter in this world: AWS only, a database and a gateway of its own.

    The gateway outlives every command; it is ended here.
    """
    from arbiter import registry
    from arbiter.gateway.envoy import EnvoyGateway

    here = Path(__file__).parent
    others = {
        f"ARBITER_PROVIDERS__{name.upper()}__ENABLED": "false"
        for name in registry.names()
        if name != "aws"
    }
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    yield {
        **world.process_environment(),
        **others,
        "ARBITER_GATEWAY__PORT": str(port),
        "ARBITER_DATABASE_URL": f"sqlite:///{tmp_path / 'arbiter.db'}",
        "ARBITER_DATA_DIR": str(tmp_path / "data"),
        "ARBITER_EXECUTOR": "skypilot",
        "ARBITER_PROFILES_DIR": str(here / "profiles"),
        "ARBITER_TEMPLATES_DIR": str(here / "templates"),
        "ARBITER_PROVIDERS__AWS__REGIONS": "eu-north-1,eu-central-1,eu-west-1,us-east-1",
        "ARBITER_API_KEY": "end-to-end-key",
    }
    EnvoyGateway(tmp_path / "data" / "gateway", tuple, port=port).stop()
