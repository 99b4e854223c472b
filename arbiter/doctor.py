"""What works and what is missing on this machine, each with the next command to type."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter.errors import ArbiterError
from arbiter.resources import resource_dir
from arbiter.settings import Settings

if TYPE_CHECKING:
    from arbiter.policy import Policy
    from arbiter.store.journal import ActionRow
    from arbiter.store.prices import PollRow
    from arbiter.store.quarantine import Case
    from arbiter.store.rates import Held

SCARCE_BYTES = 1 << 30
"""A year of prices of five clouds takes less than this."""

FULL_BYTES = 50 << 20

SKYPILOT = "0.14.1"
"""The release whose behaviour the executor was written against."""

SERVER_S = 2.0
CLOUDS_S = 60.0
"""Seconds to wait for SkyPilot's API server, and for its list of clouds."""


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARN = "warn"  # something is missing, arbiter works without it
    FAIL = "fail"  # arbiter does not work


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        found: one sentence without a full stop.
        next: the command to type, or None.
    """

    name: str
    state: State
    found: str
    next: str | None = None


def examine(settings: Callable[[], Settings], now: datetime) -> list[Check]:
    """Look at everything; no check's failure stops the others.

    Args:
        settings: reads the settings; may raise SettingsError.
        now: aware, UTC.
    """
    checks = [_python(), *_files()]
    try:
        found = settings()
    except ArbiterError as error:
        lines = error.message.splitlines()
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        wrong = Check("settings", State.FAIL, lines[0] + more, error.hint or "mend the file")
        return [*checks, wrong]
    checks.append(Check("settings", State.OK, f"executor {found.executor}, policy {_rule(found)}"))
    checks += [_profiles(found), _disk(found)]
    checks += _database(found, now)
    if found.executor == "skypilot":
        checks += _skypilot(found.policy)
    return [*checks, _daemon(found), _gateway(found)]


def _rule(settings: Settings) -> str:
    return f"{settings.policy.name} at sovereignty {settings.policy.sovereignty.level}"


def _python() -> Check:
    return Check("python", State.OK, f"{platform.python_version()} at {sys.executable}")


def _files() -> Iterator[Check]:
    """What the wheel or the checkout brings along."""
    for name in ("templates", "migrations", "data"):
        try:
            yield Check(name, State.OK, str(resource_dir(name)))
        except ArbiterError as error:
            yield Check(name, State.FAIL, error.message, error.hint)


def _profiles(settings: Settings) -> Check:
    from arbiter.profiles import load_profile, profile_names

    names = profile_names(settings.profiles_path)
    wrong = []
    for name in names:
        try:
            load_profile(name, settings.profiles_path)
        except ArbiterError as error:
            wrong.append(error.message.splitlines()[0])
    if wrong:
        return Check("profiles", State.WARN, "; ".join(wrong), "mend the files")
    return Check("profiles", State.OK, f"{len(names)}: {', '.join(names)}")


def _disk(settings: Settings) -> Check:
    folder = _folder(settings)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if not os.access(folder, os.W_OK):
        return Check("disk", State.FAIL, f"{folder} cannot be written", "set ARBITER_DATA_DIR")
    if free < FULL_BYTES:
        return Check("disk", State.FAIL, text, "free some space")
    if free < SCARCE_BYTES:
        return Check("disk", State.WARN, text, "free some space")
    return Check("disk", State.OK, text)


def _folder(settings: Settings) -> Path:
    """Where the prices go: the database's folder where it is a file, else the data folder."""
    scheme, _, path = settings.database_url.partition(":///")
    return Path(path).parent if scheme.startswith("sqlite") and path else settings.data_dir


# --- database and providers -----------------------------------------------------------------


def _database(settings: Settings, now: datetime) -> Iterator[Check]:
    from arbiter.store import SCHEMA
    from arbiter.store.engine import Store, parse_url, schema_of
    from arbiter.store.journal import failing_ends, orphans
    from arbiter.store.prices import last_polls
    from arbiter.store.quarantine import cases
    from arbiter.store.rates import currencies_standing, held

    try:
        url = parse_url(settings.database_url)
        shown = url.render_as_string(hide_password=True)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            yield Check("database", State.WARN, f"{shown} does not exist yet", "arbiter poll")
            return
        store = Store(settings.database_url, migrate=False)
        try:
            schema = schema_of(store.engine)
            if schema != SCHEMA:
                what = "is empty" if schema is None else f"has the older schema {schema}"
                yield Check("database", State.WARN, f"{shown} {what}", "arbiter poll")
                return
            with store.begin() as connection:
                polls = last_polls(connection)
                doubts = cases(connection)
                failing, lost = failing_ends(connection), orphans(connection)
                foreign, rates = currencies_standing(connection) - {"USD"}, held(connection)
        finally:
            store.close()
    except ArbiterError as error:
        yield Check("database", State.FAIL, error.message, error.hint)
        return
    yield Check("database", State.OK, f"{shown}, schema {SCHEMA}")
    yield from _providers(settings, {row.provider: row for row in polls}, now)
    yield _held_back(doubts, now)
    yield _rates(foreign, rates, now.date())
    yield _leaks([row for rows in failing.values() for row in rows], lost)


def _leaks(failing: Sequence[ActionRow], lost: Mapping[str, int]) -> Check:
    """Machines that cost money for nothing."""
    wrong = [row.error for row in failing]
    wrong += [f"{cluster} belongs to no service" for cluster in sorted(lost)]
    if not wrong:
        return Check("machines", State.OK, "none is left over")
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return Check(
        "machines", State.WARN, wrong[0] + more, "arbiter status, then the provider's console"
    )


def _held_back(doubts: Sequence[Case], now: datetime) -> Check:
    """Prices that are kept and not believed: a person may see at once what they are."""
    from arbiter.offer_shapes import age

    if not doubts:
        return Check("held back", State.OK, "no price is doubted")
    counts = Counter((case.provider, case.reason) for case in doubts)
    prices = Counter[tuple[str, str]]()
    for case in doubts:
        prices[case.provider, case.reason] += case.offers
    since = min(case.first_at for case in doubts)
    lines = [
        f"{provider}: {_counted(prices[provider, reason], 'price')} in {_counted(parts, 'place')}, "
        f"{reason}"
        for (provider, reason), parts in sorted(counts.items())
    ]
    found = f"{'; '.join(lines)}; the first {age(now, since)} ago"
    return Check("held back", State.WARN, found, "arbiter poll, and see docs/rules.md")


def _rates(foreign: Collection[str], rates: Sequence[Held], today: date) -> Check:
    """Whether prices of several currencies can be compared."""
    from arbiter.prices.fx import BASE, CARRIED_DAYS, LOAD

    newest = {one.currency: one.last for one in rates}
    missing = [
        name
        for name in sorted({"USD", *foreign} - {BASE})
        if name not in newest or (today - newest[name]).days > CARRIED_DAYS
    ]
    if foreign and missing:
        found = f"none of {', '.join(missing)} within {CARRIED_DAYS} days, while prices in "
        found += f"{', '.join(sorted(foreign))} stand: they are not compared"
        return Check("reference rates", State.WARN, found, LOAD)
    if not newest:
        return Check("reference rates", State.OK, "none stored, and all prices are in USD")
    return Check("reference rates", State.OK, f"the newest is of {max(newest.values())}")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _providers(settings: Settings, polls: dict[str, PollRow], now: datetime) -> Iterator[Check]:
    """By the last poll: it alone shows whether credentials and endpoints work."""
    from arbiter import registry
    from arbiter.offer_shapes import age

    for name in registry.names():
        title, row = f"provider {name}", polls.get(name)
        if not settings.provider(name).enabled:
            yield Check(title, State.OK, "switched off in the settings")
        elif row is None:
            yield Check(title, State.WARN, "was not polled yet", f"arbiter poll {name}")
        elif row.state == "ok":
            when = age(now, row.finished_at)
            yield Check(title, State.OK, f"{row.offers} offers {when} ago{row.aside}")
        else:
            why = "; ".join(row.reasons) or "no reason was recorded"
            found = f"{row.state} {age(now, row.finished_at)} ago: {why}"
            yield Check(title, State.WARN, found, f"arbiter poll {name}")
    if polls and all(row.state == "failed" for row in polls.values()):
        yield Check("prices", State.WARN, "no provider answers", "arbiter poll azure")


# --- launching ------------------------------------------------------------------------------


def _skypilot(policy: Policy) -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("skypilot")
    except PackageNotFoundError:
        missing = "is not installed: prices are recorded, nothing can be launched"
        yield Check("skypilot", State.WARN, missing, "pip install 'arbiter[skypilot]'")
        return
    if found != SKYPILOT:
        other = f"{found}, arbiter was written for {SKYPILOT}"
        yield Check("skypilot", State.WARN, other, "pip install 'arbiter[skypilot]'")
    else:
        yield Check("skypilot", State.OK, found)
    url = _server_url()
    if not _answers(f"{url}/api/health"):
        silent = f"its API server does not answer at {url}"
        yield Check("skypilot server", State.WARN, silent, "sky api start")
        return
    yield Check("skypilot server", State.OK, f"answers at {url}")
    clouds = _clouds()
    if isinstance(clouds, Check):
        yield clouds
        return
    yield Check("skypilot clouds", State.OK, ", ".join(clouds))
    if policy.parked:
        yield _parking(policy, clouds)


def _parking(policy: Policy, clouds: Sequence[str]) -> Check:
    """On which of the clouds a fallback is stopped instead of ended."""
    from arbiter.executors.skypilot import STOPS, why_not_stopped
    from arbiter.parking import allowed

    if not allowed(policy, policy.parked):
        alone = "nothing is parked: that takes a policy that allows both spot and on-demand"
        return Check("parking", State.WARN, alone, "set policy.parked to 0")
    able = [name for name in clouds if why_not_stopped(name) is None]
    if not able:
        where = f"nothing is parked: machines are stopped on {', '.join(sorted(STOPS))} alone"
        return Check("parking", State.WARN, where, "sky check")
    machines = _counted(policy.parked, "machine")
    found = f"up to {machines} of each service on {', '.join(able)}"
    others = "; ".join(f"not on {name}: {why}" for name in clouds if (why := why_not_stopped(name)))
    disks = "what a stopped machine's disk costs there is not known to arbiter"
    return Check("parking", State.OK, "; ".join(filter(None, (found, others, disks))))


def _server_url() -> str:
    """As SkyPilot's own client finds it."""
    given = os.environ.get("SKYPILOT_API_SERVER_ENDPOINT")
    port = os.environ.get("SKYPILOT_API_SERVER_LOCAL_PORT", "46580")
    return given.rstrip("/") if given else f"http://127.0.0.1:{port}"


def _answers(url: str) -> bool:
    import urllib.request

    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(url, timeout=SERVER_S) as response:  # noqa: S310
            return bool(response.status == 200)
    except OSError:
        return False


def _clouds() -> list[str] | Check:
    """The clouds that SkyPilot may use, or why none is known.

    In a process of its own: SkyPilot takes seconds to import, and may never come back.
    """
    ask = (
        "import json; from sky.client import sdk; "
        "print(json.dumps(sdk.get(sdk.enabled_clouds()), default=str))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", ask], capture_output=True, text=True, timeout=CLOUDS_S
        )
        clouds = [str(cloud).lower() for cloud in json.loads(done.stdout.splitlines()[-1])]
    except subprocess.TimeoutExpired:
        slow = f"its server did not name its clouds within {CLOUDS_S:.0f} s"
        return Check("skypilot clouds", State.WARN, slow, "sky check")
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1][:200]
        return Check("skypilot clouds", State.WARN, f"asking for them failed: {said}", "sky check")
    if not clouds:
        return Check("skypilot clouds", State.WARN, "none is enabled", "sky check")
    return sorted(clouds)


def _daemon(settings: Settings) -> Check:
    host, port = settings.daemon.host, settings.daemon.port
    if _answers(f"http://{host}:{port}/healthz"):
        return Check("daemon", State.OK, f"answers at http://{host}:{port}")
    return Check("daemon", State.WARN, f"nothing answers at {host}:{port}", "arbiter daemon")


def _gateway(settings: Settings) -> Check:
    from arbiter.assemble import make_routing

    if not settings.gateway.enabled:
        return Check("gateway", State.OK, "switched off in the settings: clients ask the replicas")
    routing = make_routing(settings)
    health = routing.health()
    if health is None:
        return Check("gateway", State.WARN, routing.absent, "pip install 'arbiter[gateway]'")
    address = f"{settings.gateway.host}:{settings.gateway.port}"
    if not health.running:
        found = health.error or "it does not run"
        return Check("gateway", State.WARN, f"{found} ({address})", "arbiter daemon")
    if health.error is not None:
        return Check("gateway", State.WARN, health.error, f"look at {settings.gateway_dir}")
    return Check("gateway", State.OK, f"Envoy {health.version} answers at {address}")
