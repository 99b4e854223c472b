"""Run by test_wheel.py with the Python of an environment that holds nothing but the wheel.

Imports of arbiter alone; prints one JSON object of what was found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from arbiter import registry
from arbiter.domain import Offer, Purchase
from arbiter.profiles import load_profile, profile_names
from arbiter.provider import ProviderSettings
from arbiter.regions import load_atlas
from arbiter.render import TaskInputs, render_task
from arbiter.resources import resource_dir
from arbiter.store.engine import Store


def rendered(name: str) -> str:
    """The task of a profile, on a made-up offer in a real place."""
    profile = load_profile(name)
    place = load_atlas().place("aws", "eu-north-1")
    offer = Offer(
        "aws", "standard", "eu-north-1", None, "p5.48xlarge", "H100", 8, Purchase.SPOT, place
    )
    inputs = TaskInputs(profile, profile.variants[0], offer, "c-1", "owner", "service", {})
    return render_task(inputs)


def main(database: str) -> None:
    """Touch everything that a wheel could have left behind."""
    for name in registry.names():
        assert registry.load(name, ProviderSettings()).name == name
    Store(f"sqlite:///{database}").close()
    folders = [str(resource_dir(name)) for name in ("templates", "migrations", "data")]
    found = {
        "arbiter": str(Path(sys.modules["arbiter"].__file__ or "").parent),
        "folders": folders,
        "providers": registry.names(),
        "profiles": profile_names(),
        "tasks": [rendered(name)[:9] for name in profile_names()],
    }
    print(json.dumps(found))


main(sys.argv[1])
