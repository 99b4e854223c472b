"""An executor in a process of its own, so that SkyPilot's SDK stays out of the tests' process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import Any

from arbiter.executors.base import Executor
from arbiter.executors.skypilot import SkyPilotExecutor


class Elsewhere(BaseManager):
    """Runs what is registered with it; calls and errors come back as if it were here."""


Elsewhere.register("SkyPilotExecutor", SkyPilotExecutor)


@contextmanager
def executor_elsewhere(environment: Mapping[str, str]) -> Iterator[Executor]:
    """A SkyPilot executor with nothing but this environment."""
    manager: Any = Elsewhere(ctx=multiprocessing.get_context("spawn"))
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environment)
        manager.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield manager.SkyPilotExecutor()
    finally:
        manager.shutdown()
