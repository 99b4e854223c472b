"""Settings: the defaults, then arbiter.toml, then ARBITER_* variables with `__` between levels.

The dataclasses are the schema. With nothing set, nothing is imported to check it; msgspec checks
the rest in milliseconds, and pydantic is imported only to say everything that is wrong at once.
A setting holds no secret, but for the password that a `database_url` may have: it is never printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from arbiter.errors import SettingsError
from arbiter.policy import Policy
from arbiter.provider_settings import ProviderSettings
from arbiter.scaling import Reaction

CONFIG_VARIABLE = "ARBITER_CONFIG"
EXECUTORS = ("skypilot", "local")

_PATHS = ("data_dir", "profiles_dir", "templates_dir")
_GATEWAY_PATHS = ("state_dir", "client_keys_file", "tls_cert_file", "tls_key_file")
_TEXTS = frozenset({"database_url", "executor"})


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The daemon.

    Attributes:
        host, port: where API, dashboard and /metrics listen; port 0 takes any that is free.
        tick_s: seconds between two looks at what runs.
    """

    host: str = "127.0.0.1"
    port: int = 8400
    tick_s: float = 10.0


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The gateway: what clients talk to.

    Attributes:
        enabled: services get a stable endpoint; without it, clients ask replicas themselves.
        host: an IP address of this machine to listen on; port is never chosen by itself.
        url: base under which clients reach it, where that is not http://host:port.
        tls_cert_file, tls_key_file: PEM files; with both it listens with TLS.
        state_dir: its files and sockets; None is `gateway` in data_dir.
        workers: threads that forward.
        drain_s: seconds that an answer may still take before its replica, or a gateway that is
            being replaced, is ended all the same.
        client_key_envs: names of variables that hold clients' keys, separated by commas.
        client_keys_file: a file with a client's key in every line, read anew at every tick.
        fallback_url: base URL of an external API that answers while no replica does. The policy
            decides whether it may.
        fallback_key_env: name of the variable that holds its key.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 8401
    url: str | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    state_dir: Path | None = None
    workers: int = 2
    drain_s: float = 600.0
    client_key_envs: tuple[str, ...] = ()
    client_keys_file: Path | None = None
    fallback_url: str | None = None
    fallback_key_env: str | None = None


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How launches are waited for, and what happens to machines that nobody owns.

    Attributes:
        launch_deadline_s: seconds after which a launch that has brought no machine counts as
            refused: what it has made is ended, and the next offer is tried.
        hedge_after_s: seconds after which such a launch gets a second one beside it, at the next
            offer, while replicas are missing; the first machine that is up stays. Where three or
            more launches were measured, twice the slowest of them counts instead. The default is
            five times the slowest launch seen through SkyPilot (56 s, on a simulated AWS) and half
            of the 600 s that it waits for an SSH that never answers.
        end_orphans: machines that carry this arbiter's tag and that no service knows are ended
            when they are seen twice; otherwise they are only reported.
        leave_s: seconds before the announced end of a machine at which it gets no more requests,
            whether or not another has taken its place.
    """

    launch_deadline_s: float = 1200.0
    hedge_after_s: float = 300.0
    end_orphans: bool = False
    leave_s: float = 15.0


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """For how many days rows are kept; None is for ever.

    Attributes:
        prices_days: changes of prices; from then on a day's figures are left of them.
        decisions_inputs_days: what decisions were made from, about 150 KB each. The decision
            itself, with its reasons, is kept for ever; only replaying it needs its inputs.
        polls_days: the account of each poll.
        events_days: what happened, a sentence each.
        served_days: the tokens that each server made, a row of 80 bytes for five minutes.
    """

    prices_days: int | None = None
    decisions_inputs_days: int | None = 30
    polls_days: int | None = 90
    events_days: int | None = None
    served_days: int | None = 400


@dataclass(frozen=True, slots=True)
class RatesSettings:
    """The reference rates of currencies.

    Attributes:
        fetch: the daemon fetches them; otherwise files are loaded with `arbiter prices rates`.
        endpoint: base URL in place of the European Central Bank's.
    """

    fetch: bool = True
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    Attributes:
        database_url: sqlite:///... or postgresql://...; empty is a file in data_dir.
        data_dir: the user's data folder; empty is the system's usual place. A relative folder in
            a file is meant from that file, one in a variable from where the command was typed.
        executor: "skypilot", or "local" for processes on loopback.
        profiles_dir, templates_dir: the user's own, looked at before the shipped ones.
        providers: provider -> its settings, where they differ from the defaults.
        simulated: prices and servers are not real; every answer says so.
    """

    database_url: str = field(default="", repr=False)
    data_dir: Path = Path()
    executor: str = "skypilot"
    profiles_dir: Path | None = None
    templates_dir: Path | None = None
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    scaling: Reaction = field(default_factory=Reaction)
    rates: RatesSettings = field(default_factory=RatesSettings)
    simulated: bool = False

    def provider(self, name: str) -> ProviderSettings:
        """The settings of a provider, with a cache folder of its own."""
        found = self.providers.get(name, ProviderSettings())
        options = {"cache_dir": str(self.data_dir / "cache" / name), **found.options}
        return replace(found, options=options)

    @property
    def gateway_dir(self) -> Path:
        """Where the gateway keeps its files."""
        return self.gateway.state_dir or self.data_dir / "gateway"

    @property
    def profiles_path(self) -> tuple[Path, ...]:
        """Folders of the user's own profiles."""
        return (self.profiles_dir,) if self.profiles_dir else ()

    @property
    def templates_path(self) -> tuple[Path, ...]:
        """Folders of the user's own templates."""
        return (self.templates_dir,) if self.templates_dir else ()


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force.

    Args:
        path: the file; None takes the first of $ARBITER_CONFIG, ./arbiter.toml, and arbiter.toml
            in the user's configuration folder.
        environ: None is the process's own.

    Raises:
        SettingsError: one line, with file and line or the variable's name, for every problem.
    """
    variables = os.environ if environ is None else environ
    file = _file(path, variables)
    if file is None and not any(name.startswith("ARBITER_") for name in variables):
        return _completed(Settings(), variables)
    from arbiter.setting_sources import read_sources

    sources = read_sources(file, variables, Settings)
    if not sources.data:
        return _completed(Settings(), variables)
    data = dict(sources.data)
    for key in _PATHS:
        if isinstance(data.get(key), str):
            data[key] = sources.folder(key) / Path(data[key]).expanduser()
    if isinstance(data.get("gateway"), dict):
        data["gateway"] = dict(data["gateway"])
        for key in _GATEWAY_PATHS:
            if isinstance(data["gateway"].get(key), str):
                path = Path(data["gateway"][key]).expanduser()
                data["gateway"][key] = sources.folder("gateway", key) / path
    settings, failure = _converted(data)

    from arbiter.setting_checks import problems

    found = problems(data, failure)
    if found or settings is None:
        raise SettingsError(sources.report(found))
    return _completed(settings, variables)


def default_data_dir(variables: Mapping[str, str]) -> Path:
    """The system's place for the user's data: on Linux $XDG_DATA_HOME or ~/.local/share."""
    return _usual_folder(variables, "data", "XDG_DATA_HOME", ".local/share")


def _file(path: Path | None, variables: Mapping[str, str]) -> Path | None:
    named = path or (Path(variables[CONFIG_VARIABLE]) if variables.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if named.is_file():
            return named
        asked = "" if path else f" ({CONFIG_VARIABLE})"
        raise SettingsError(f"there is no settings file {named}{asked}", "check the path")
    usual = _usual_folder(variables, "config", "XDG_CONFIG_HOME", ".config")
    candidates = (Path("arbiter.toml"), usual / "arbiter.toml")
    return next((one for one in candidates if one.is_file()), None)


def _usual_folder(variables: Mapping[str, str], kind: str, variable: str, beneath: str) -> Path:
    """By the XDG rule itself where that is the rule: to import platformdirs takes 20 ms."""
    if sys.platform in ("darwin", "win32"):
        import platformdirs

        usual = platformdirs.user_data_dir if kind == "data" else platformdirs.user_config_dir
        return Path(usual("arbiter", appauthor=False))
    named = variables.get(variable, "")
    if os.path.isabs(named):  # the rule: a relative one is ignored
        return Path(named) / "arbiter"
    home = variables.get("HOME")
    return (Path(home) if home else Path.home()) / beneath / "arbiter"


def _converted(data: Mapping[str, Any]) -> tuple[Settings | None, str | None]:
    """The settings, or msgspec's sentence of the first thing that is wrong with them."""
    if all(_is_plain(key, value) for key, value in data.items()):
        return Settings(**data), None  # what a container sets: not worth msgspec's import
    import msgspec

    from arbiter.typed import convert

    try:
        return convert(data, Settings), None
    except msgspec.ValidationError as error:
        return None, str(error)


def _is_plain(key: str, value: object) -> bool:
    return (key in _TEXTS and isinstance(value, str)) or (key in _PATHS and isinstance(value, Path))


def _completed(settings: Settings, variables: Mapping[str, str]) -> Settings:
    """With the folder and the database that are used when none is named."""
    data_dir = settings.data_dir
    if data_dir == Path():
        data_dir = default_data_dir(variables)
    url = settings.database_url or f"sqlite:///{quote(str(data_dir / 'arbiter.db'))}"
    return replace(settings, data_dir=data_dir, database_url=url)
