"""What every test stands on: no network but loopback, nobody's settings, a home of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from postgresql_server import NoPostgresql, PostgresqlServer, running_postgresql

REPOSITORY = Path(__file__).resolve().parent.parent

# Settings and credentials of whoever runs the tests. None of them may reach a test.
FOREIGN = (
    "ARBITER_",
    "AWS_",
    "AZURE_",
    "GOOGLE_",
    "GCP_",
    "CLOUDSDK_",
    "RUNPOD_",
    "LAMBDA_",
    "NEBIUS_",
    "SCW_",
    "OVH_",
    "VERDA_",
    "HF_",
    "HUGGING_FACE_",
    "SKYPILOT_",
)
# How the suite itself is run, not a setting of arbiter.
KEPT = frozenset({"ARBITER_CI", "ARBITER_E2E_CACHE"})
XDG = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")

# No example may fail because the machine was busy. In CI hypothesis draws the same ones every time.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

_home: tempfile.TemporaryDirectory[str] | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Leave the user's environment before any module is imported that could read it."""
    global _home
    _keep_package_caches(Path.home())
    for name in list(os.environ):
        if name.startswith(FOREIGN) and name not in KEPT:
            del os.environ[name]
    _home = tempfile.TemporaryDirectory(prefix="arbiter-home-", ignore_cleanup_errors=True)
    os.environ["HOME"] = _home.name
    for name in XDG:
        os.environ.pop(name, None)
    # Without credentials boto3 would ask the machine's metadata service.
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["NO_COLOR"] = "1"
    os.environ["TZ"] = "America/St_Johns"  # no test may pass because it runs in UTC
    time.tzset()
    if os.environ.get("ARBITER_CI"):
        config.pluginmanager.register(NothingMissing())


ONE_AFTER_THE_OTHER = frozenset({"chaos", "e2e", "gateway_real", "packaging"})
"""Folders whose tests would take the machine from each other, were they to run side by side."""
LONGEST_FIRST = (ONE_AFTER_THE_OTHER, {"store"}, {"providers"}, {"property"})
"""With several workers: what takes longest must not be what all wait for in the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers (`-n`), a file stays with one of them, and so do the heavy folders."""
    for item in items:
        heavy = _rank(item) == 0
        item.add_marker(pytest.mark.xdist_group("heavy" if heavy else str(item.path)))
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)  # groups are begun in this order


def _rank(item: pytest.Item) -> int:
    folders = set(item.nodeid.partition("::")[0].split("/"))
    ranks = (rank for rank, names in enumerate(LONGEST_FIRST) if folders & names)
    return next(ranks, len(LONGEST_FIRST))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _home is not None:
        _home.cleanup()


def _keep_package_caches(home: Path) -> None:
    """Let uv and pip, run by a test, still find their index and what they downloaded before."""
    found = {
        "UV_CACHE_DIR": Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "uv",
        "UV_CONFIG_FILE": home / ".config" / "uv" / "uv.toml",
        "PIP_CONFIG_FILE": home / ".config" / "pip" / "pip.conf",
    }
    for name, path in found.items():
        if path.exists():
            os.environ.setdefault(name, str(path))


class NothingMissing:
    """Under continuous integration, a test skipped for want of an install is a failure.

    Attributes:
        skipped: node id -> the reason, which starts with "needs " where an install mends it.
    """

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.startswith(("needs ", "could not import")):
                self.skipped[report.nodeid] = reason

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section("skipped, and nothing may be skipped here", red=True)
            for nodeid, reason in sorted(self.skipped.items()):
                terminalreporter.line(f"{nodeid}: {reason}")


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's data, configuration and caches are its own; the home lasts for the whole run."""
    folders = tmp_path_factory.mktemp("xdg")
    for name in XDG:
        monkeypatch.setenv(name, str(folders / name.lower()))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests belong to."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings and histories kept beside the checkout, too large to be part of it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared data beside the checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A throw-away server; `with postgresql.database() as url` gives an empty database."""
    try:
        with running_postgresql() as server:
            yield server
    except NoPostgresql as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The system's Chromium; nothing is downloaded."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return Path(found)
    pytest.skip("needs Chromium: apt-get install chromium")
