"""The modules that decide know no clock, no random number, no I/O, no SQL and no SDK.

Denied by default: a pure module may import what is listed here, and nothing else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import REPOSITORY

PURE = (
    "asked",
    "believed",
    "breakdown",
    "calibration",
    "commitments",
    "costs",
    "counters",
    "countries",
    "domain",
    "economics",
    "egress",
    "expected",
    "explain",
    "offer_shapes",
    "gate",
    "gpus",
    "market",
    "money",
    "orders",
    "planner",
    "parked_fallback",
    "parking",
    "policy",
    "churn",
    "crash_loop",
    "cold_starts",
    "hedging",
    "pools",
    "quality",
    "relaxing",
    "ranking",
    "replay",
    "roofline",
    "scaling",
    "service_hours",
    "sentences",
    "sieve",
    "served",
    "sizing",
    "sovereignty",
    "spot.beliefs",
    "spot.cold",
    "spot.decide",
    "spot.goal",
    "spot.mix",
    "spot.priors",
    "spot.places",
    "spot.probes",
    "spot.regional",
    "spot.shortlist",
    "spot.situation",
    "standing",
    "steering",
    "steps",
    "variants",
    "wishes",
)

STANDARD = frozenset(
    {
        "__future__",
        "bisect",
        "collections",
        "collections.abc",
        "dataclasses",
        "datetime",
        "decimal",
        "difflib",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "math",
        "operator",
        "re",
        "statistics",
        "typing",
    }
)
PURE_MODULES = frozenset(f"arbiter.{name}" for name in PURE)
# Modules with a pure part: only these names of them.
PARTS: dict[str, frozenset[str]] = {
    "arbiter.errors": frozenset({"ArbiterError", "UnknownName"}),
    "arbiter.profiles": frozenset({"Architecture", "Profile", "Quantization", "Variant"}),
    "arbiter.provider": frozenset({"PricedOffer", "Skip"}),
    "prometheus_client.parser": frozenset({"text_string_to_metric_families"}),
    "msgspec": frozenset(),  # explain turns dataclasses into plain values with it
}
BANNED_CALLS = frozenset(
    {"open", "input", "print", "exec", "eval", "__import__", "hash", "globals"}
)
BANNED_METHODS = frozenset({"now", "utcnow", "today", "read_text", "write_text", "fromtimestamp"})


class Impurities(ast.NodeVisitor):
    """Collects what a pure module may not do, as "line: what"."""

    def __init__(self, whole_modules: frozenset[str]) -> None:
        self.found: list[str] = []
        self._whole_modules = whole_modules

    def _report(self, node: ast.expr | ast.stmt, what: str) -> None:
        self.found.append(f"{node.lineno}: {what}")

    def visit_If(self, node: ast.If) -> None:
        """Imports for the type checker alone are not run."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
            return
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name not in self._whole_modules and PARTS.get(alias.name) != frozenset():
                self._report(node, f"imports {alias.name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            self._report(node, "imports relatively")
        elif module not in self._whole_modules:
            for alias in node.names:
                if alias.name not in PARTS.get(module, ()):
                    self._report(node, f"imports {alias.name} of {module}")

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Name) and called.id in BANNED_CALLS:
            self._report(node, f"calls {called.id}()")
        if isinstance(called, ast.Attribute) and called.attr in BANNED_METHODS:
            self._report(node, f"calls .{called.attr}()")
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self._report(node, "keeps state in a global")


def impurities(source: str) -> list[str]:
    visitor = Impurities(STANDARD | PURE_MODULES)
    visitor.visit(ast.parse(source))
    return visitor.found


@pytest.mark.parametrize("name", PURE)
def test_a_module_that_decides_is_pure(name: str) -> None:
    source = (REPOSITORY / "arbiter" / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert impurities(source) == []


def test_whoever_calls_itself_pure_is_checked() -> None:
    claiming = {path.stem for path in modules() if claims_purity(path)}
    # These read the types of an executor's sighting, which is their whole point.
    assert claiming - set(PURE) <= {"lessons", "transitions"}


def modules() -> Iterator[Path]:
    return (REPOSITORY / "arbiter").glob("*.py")


def claims_purity(path: Path) -> bool:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return "Pure." in docstring


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import random",
        "import uuid",
        "import os",
        "import sqlalchemy",
        "from os import environ",
        "from sky import launch",
        "import httpx",
        "from arbiter.clock import SystemClock",
        "from arbiter.store.engine import Store",
        "from arbiter.executors.base import Executor",
        "from arbiter.profiles import load_profile",
        "from . import clock",
        "def f():\n    import requests",
        "def f():\n    return open('x')",
        "def f():\n    return datetime.now(UTC)",
        "def f():\n    return datetime.date.today()",
        "def f(path):\n    return path.read_text()",
        "def f(x):\n    return hash(x)",
        "if not TYPE_CHECKING:\n    import os",
        "seen = 0\ndef f():\n    global seen",
    ],
)
def test_an_impurity_is_seen(source: str) -> None:
    assert len(impurities(source)) == 1


def test_imports_for_the_type_checker_are_free() -> None:
    assert impurities("if TYPE_CHECKING:\n    from arbiter.store.engine import Store") == []
