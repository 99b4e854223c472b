"""Settings: arbiter.toml, then ARBITER_* variables with `__` between the levels.

The dataclasses are the schema. msgspec checks them in milliseconds; pydantic is imported only to
say everything that is wrong at once. Settings hold no secrets but a password in `database_url`,
which is never printed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from arbiter.errors import ArbiterError, SettingsError
from arbiter.policy import Policy
from arbiter.provider import ProviderSettings
from arbiter.strict_yaml import Problem

PREFIX = "ARBITER_"
RESERVED = ("ARBITER_API_KEY", "ARBITER_CONFIG", "ARBITER_CI", "ARBITER_E2E", "ARBITER_COMPLETE")
"""Variables (or beginnings of them) that are not settings."""

EXECUTORS = ("skypilot", "local")


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The daemon.

    Attributes:
        host, port: where API, dashboard and /metrics listen.
        tick_s: seconds between two looks at what runs.
    """

    host: str = "127.0.0.1"
    port: int = 8400
    tick_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    Attributes:
        database_url: sqlite:///... or postgresql://...; empty is a file in data_dir.
        data_dir: the user's data folder; empty is the system's usual place.
        executor: "skypilot", or "local" for processes on loopback.
        profiles_dir, templates_dir: the user's own, looked at before the shipped ones.
        providers: provider -> its settings, where they differ from the defaults.
        simulated: prices and servers are not real; every answer says so.
    """

    database_url: str = ""
    data_dir: Path = Path()
    executor: str = "skypilot"
    profiles_dir: Path | None = None
    templates_dir: Path | None = None
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
    simulated: bool = False

    def provider(self, name: str) -> ProviderSettings:
        """The settings of a provider, with a cache folder of its own."""
        found = self.providers.get(name, ProviderSettings())
        options = {"cache_dir": str(self.data_dir / "cache" / name), **found.options}
        return replace(found, options=options)

    @property
    def profiles_path(self) -> tuple[Path, ...]:
        """Folders of the user's own profiles."""
        return (self.profiles_dir,) if self.profiles_dir else ()

    @property
    def templates_path(self) -> tuple[Path, ...]:
        """Folders of the user's own templates."""
        return (self.templates_dir,) if self.templates_dir else ()


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force: defaults, then the file, then the environment.

    Args:
        path: the file; None looks at $ARBITER_CONFIG, ./arbiter.toml and the user's config folder.
        environ: None is the process's own.

    Raises:
        SettingsError: one line, with file and line or the variable's name, for every problem.
    """
    variables = os.environ if environ is None else environ
    file = _find_file(path, variables)
    lines: dict[tuple[str, ...], str] = {}
    data = _read_file(file, lines) if file else {}
    _overlay(data, variables, lines)
    settings = _convert(data, lines, file)
    data_dir = settings.data_dir if data.get("data_dir") else default_data_dir(variables)
    url = settings.database_url or f"sqlite:///{data_dir / 'arbiter.db'}"
    return replace(settings, data_dir=data_dir, database_url=url)


def default_data_dir(variables: Mapping[str, str]) -> Path:
    """Where the user's data goes: $XDG_DATA_HOME/arbiter, or ~/.local/share/arbiter."""
    base = variables.get("XDG_DATA_HOME") or str(Path(variables.get("HOME", "/")) / ".local/share")
    return Path(base) / "arbiter"


def _find_file(path: Path | None, variables: Mapping[str, str]) -> Path | None:
    named = path or (Path(variables["ARBITER_CONFIG"]) if variables.get("ARBITER_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise SettingsError(f"there is no settings file {named}", "check --config")
        return named
    home = variables.get("XDG_CONFIG_HOME") or str(Path(variables.get("HOME", "/")) / ".config")
    for candidate in (Path("arbiter.toml"), Path(home) / "arbiter" / "arbiter.toml"):
        if candidate.is_file():
            return candidate
    return None


def _read_file(file: Path, lines: dict[tuple[str, ...], str]) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    _number_lines(file, text, lines)
    return data


def _number_lines(file: Path, text: str, lines: dict[tuple[str, ...], str]) -> None:
    """Where each key stands, for the errors: TOML's own reader does not say."""
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = tuple(part.strip(" \"'") for part in found.group(1).split("."))
            lines.setdefault(section, f"{file}:{number}")
        elif found := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            key = tuple(part.strip(" \"'") for part in found.group(1).split("."))
            lines[(*section, *key)] = f"{file}:{number}"


def _overlay(
    data: dict[str, Any], variables: Mapping[str, str], lines: dict[tuple[str, ...], str]
) -> None:
    """Write the variables over the file. ARBITER_A__B=x sets b in [a]."""
    for name, value in sorted(variables.items()):
        if not name.startswith(PREFIX) or name.startswith(RESERVED):
            continue
        path = tuple(part.lower() for part in name[len(PREFIX) :].split("__"))
        here = data
        for part in path[:-1]:
            inner = here.setdefault(part, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"{name} goes into {part}, which is no table")
            here = inner
        here[path[-1]] = _plain(path, value)
        lines[path] = name


LISTS = ("regions", "countries", "providers", "operators")


def _plain(path: Sequence[str], value: str) -> Any:
    """A variable's text as TOML would have it: numbers and booleans are told by their look."""
    if path[-1] in LISTS and len(path) > 1:
        return [part.strip() for part in value.split(",") if part.strip()]
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if re.fullmatch(r"-?\d+", value):
        return int(value)
    if re.fullmatch(r"-?\d+\.\d+", value):
        return Decimal(value)
    return value


def _convert(
    data: dict[str, Any], lines: Mapping[tuple[str, ...], str], file: Path | None
) -> Settings:
    import msgspec

    from arbiter import schema_errors

    flat = {key: value for key, value in data.items() if key != "providers"}
    problems = [*schema_errors.unknown_keys(flat, Settings)]
    for name, section in (data.get("providers") or {}).items():
        problems += schema_errors.unknown_keys(section, ProviderSettings, ("providers", name))
    settings = Settings()
    try:
        settings = msgspec.convert(data, Settings, dec_hook=_path, strict=True)
    except msgspec.ValidationError as error:
        problems += schema_errors.type_problems(_jsonable(data), Settings) or [_located(str(error))]
    else:
        problems += _senseless(settings)
    if problems:
        raise SettingsError(_report(problems, lines, file))
    return settings


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    raise ValueError(f"must be a {kind.__name__}")


def _located(message: str) -> Problem:
    """msgspec's own sentence with its place ("... - at `$.daemon.port`")."""
    found = re.search(r"^(.*?) - at `\$\.?([^`]*)`$", message)
    if not found:
        return Problem((), message)
    return Problem(tuple(found.group(2).split(".")), found.group(1))


def _jsonable(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _jsonable(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_jsonable(value) for value in data]
    return float(data) if isinstance(data, Decimal) else data


def _senseless(settings: Settings) -> list[Problem]:
    """Values of the right type that cannot be meant."""
    from arbiter import registry

    found: list[Problem] = []

    def check(holds: bool, where: tuple[str, ...], what: str) -> None:
        if not holds:
            found.append(Problem(where, what))

    check(settings.executor in EXECUTORS, ("executor",), f"must be {' or '.join(EXECUTORS)}")
    check(0 <= settings.daemon.port < 65536, ("daemon", "port"), "must be from 0 to 65535")
    check(settings.daemon.tick_s > 0, ("daemon", "tick_s"), "must be above 0")
    if settings.database_url:
        scheme = re.match(r"(sqlite|postgres(ql)?(\+psycopg)?)://", settings.database_url)
        check(scheme is not None, ("database_url",), "must begin with sqlite:/// or postgresql://")
    policy = settings.policy
    check(0 <= policy.min_saving < 1, ("policy", "min_saving"), "must be from 0 to below 1")
    for one in fields(policy):
        value = getattr(policy, one.name)
        if one.name.endswith(("_s", "_day", "_after")) and isinstance(value, int):
            check(value >= 0, ("policy", one.name), "must not be negative")
    check(policy.spot or policy.on_demand, ("policy",), "allows neither spot nor on_demand")
    try:
        known = set(registry.names())
    except ArbiterError:
        known = set(settings.providers)
    for name, source in settings.providers.items():
        where = ("providers", name)
        check(name in known, where, f"is no provider: {', '.join(sorted(known))}")
        check(source.interval_s > 0, (*where, "interval_s"), "must be above 0")
        check(source.timeout_s > 0, (*where, "timeout_s"), "must be above 0")
        check(source.max_attempts >= 1, (*where, "max_attempts"), "must be at least 1")
        url = source.endpoint is None or re.match(r"https?://[^/\s]+", source.endpoint) is not None
        check(url, (*where, "endpoint"), "must be an http or https URL")
    return found


def _report(
    problems: Sequence[Problem], lines: Mapping[tuple[str, ...], str], file: Path | None
) -> str:
    """One line a problem, each with where it stands."""
    texts = []
    for problem in problems:
        where = tuple(str(part) for part in problem.where)
        place = next(
            (lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines),
            str(file or "settings"),
        )
        texts.append(f"{place}: {'.'.join(where)} {problem.what}".replace(":  ", ": "))
    return "\n".join(dict.fromkeys(texts))
