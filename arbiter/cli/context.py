"""What commands share: settings and prices of the running call, JSON, names for completion."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from arbiter.cli.app import App
from arbiter.errors import ArbiterError

if TYPE_CHECKING:
    from arbiter.calibration import Rates
    from arbiter.domain import Quote, Refusal
    from arbiter.policy import Policy
    from arbiter.regions import Atlas
    from arbiter.settings import Settings
    from arbiter.store.polls import PollRow
    from arbiter.store.quotes import Kinds

SIMULATED = "SIMULATED: prices and servers are not real"


class PollLine(NamedTuple):
    """The newest poll of a provider: "ok", "degraded" or "failed", and why."""

    provider: str
    state: str
    reasons: tuple[str, ...]


class Standing(NamedTuple):
    """What the database says now."""

    quotes: list[Quote]
    polls: list[PollLine]
    refusals: list[Refusal]
    rates: Rates


def app_of(ctx: click.Context) -> App:
    """What this call was given."""
    found = ctx.find_object(App)
    if found is None:
        raise RuntimeError("the command runs outside of arbiter")
    return found


def settings_of(ctx: click.Context) -> Settings:
    """The settings of this call.

    Raises:
        SettingsError: they are malformed.
    """
    return app_of(ctx).settings


def quick_standing(settings: Settings, atlas: Atlas, kinds: Kinds | None = None) -> Standing:
    """Standing prices, newest polls and remembered refusals, read on the bare driver.

    Args:
        kinds: leaves out kinds of machine that are refused, and counts them.

    Raises:
        StoreError: nothing is stored yet, or the database cannot be used.
    """
    from arbiter.store import quotes as quick

    url = settings.database_url
    try:
        query = quick.open_quick(url)
    except quick.OlderSchema:
        from arbiter.store.engine import Store

        Store(url).close()  # migrates, or says that the database is newer
        query = quick.open_quick(url)
    polls = [
        PollLine(provider, state, tuple(json.loads(reasons)))
        for provider, state, reasons in query(quick.LAST_POLLS)
    ]
    if not polls:
        raise ArbiterError("no prices are stored yet", "run: arbiter poll")
    return Standing(
        quick.read_quotes(query, atlas, kinds),
        polls,
        quick.read_refusals(query),
        quick.read_rates(query),
    )


def degraded(polls: Sequence[PollLine | PollRow]) -> list[dict[str, str]]:
    """What is missing of the providers that are not well, one entry for each reason."""
    return [
        {
            "provider": line.provider,
            "reason": " ".join(reason.split()).removeprefix(f"{line.provider}: "),
        }
        for line in polls
        if line.state != "ok"
        for reason in line.reasons or (line.state,)
    ]


def why(poll: PollRow) -> str:
    """Why a poll is not well, and what else to know of it, in one line; "" if nothing."""
    return reason_of(poll.reasons) if poll.reasons or poll.state != "ok" else ""


def reason_of(reasons: Sequence[str]) -> str:
    """Several reasons as one line."""
    return "; ".join(" ".join(reason.split()) for reason in reasons) or "no reason was recorded"


def policy_at(settings: Settings, level: str | None) -> Policy:
    """The settings' policy, at another sovereignty level where one is named.

    Raises:
        UnknownName: there is no such level.
    """
    policy = settings.policy
    if level is None:
        return policy
    from dataclasses import replace

    from arbiter.sovereignty import parse_level

    return replace(policy, sovereignty=replace(policy.sovereignty, level=parse_level(level)))


def print_json(value: Any) -> None:
    """One JSON document on stdout: indented for people, compact for programs."""
    import msgspec

    text = msgspec.json.encode(value)
    if sys.stdout.isatty():
        text = msgspec.json.format(text)
    click.echo(text.decode())


# --- completion: what cannot be read completes nothing ---------------------------------------


def complete_model(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of profiles."""
    from arbiter.profiles import profile_names

    return _beginning(incomplete, lambda: list(profile_names(_settings(ctx).profiles_path)))


def complete_service(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of services."""
    return _beginning(incomplete, lambda: _service_names(_settings(ctx)))


def complete_either(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of services and profiles."""
    services = complete_service(ctx, param, incomplete)
    return list(dict.fromkeys([*services, *complete_model(ctx, param, incomplete)]))


def complete_provider(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of providers."""
    from arbiter import registry

    return _beginning(incomplete, lambda: list(registry.names()))


def complete_level(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Sovereignty levels."""
    from arbiter.sovereignty import Level

    return _beginning(incomplete, lambda: [level.value for level in Level])


def complete_gpu(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of GPUs."""
    from arbiter.gpus import GPUS

    return [name for name in GPUS if name.lower().startswith(incomplete.lower())]


def _beginning(incomplete: str, names: Callable[[], list[str]]) -> list[str]:
    with contextlib.suppress(Exception):  # a shell has no place for an error here
        return [name for name in names() if name.startswith(incomplete)]
    return []


def _settings(ctx: click.Context) -> Settings:
    """While completing, no command has run yet: the options are on the outermost context."""
    app = ctx.find_object(App) or App()
    app.config = app.config or ctx.find_root().params.get("config")
    return app.settings


def _service_names(settings: Settings) -> list[str]:
    from arbiter.store.quotes import open_quick

    return [row[0] for row in open_quick(settings.database_url)("SELECT name FROM service")]
