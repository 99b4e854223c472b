"""An executor in a process of its own: SkyPilot's SDK keeps its settings for a process's life.

In a module of its own: the child finds the class by its module, and many are called `conftest`.
"""

from __future__ import annotations

from multiprocessing.managers import BaseManager

from arbiter.executors.skypilot import SkyPilotExecutor


class Elsewhere(BaseManager):
    """Runs an executor in a process of its own, with an environment of its own."""


Elsewhere.register("SkyPilotExecutor", SkyPilotExecutor)
