"""What is wrong with settings beyond their shape, all of it at once. Works on plain values."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from arbiter import registry
from arbiter.policy import Policy
from arbiter.profiles import Quantization
from arbiter.provider_settings import ProviderSettings
from arbiter.schema_errors import nearest, type_problems, unknown_keys
from arbiter.settings import EXECUTORS, Settings
from arbiter.sovereignty import Level, Selection
from arbiter.strict_yaml import Problem, Where

TEN_YEARS_S = 315_360_000

_RULE: Where = ("policy", "sovereignty")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET = re.compile(r"(^|_)(token|secret|password|passwd|api_?key|secret_?key|access_?key)$")


def problems(data: Mapping[str, Any], failure: str | None) -> list[Problem]:
    """Everything that is wrong with the settings; empty when they can be used.

    Args:
        data: plain values; paths as Path.
        failure: what the quick check of the shape said, or None when it passed.
    """
    found = [
        *_unknown(data),
        *_numbers(data),
        *_words(data),
        *_providers(data),
        *_places(data),
        *_commitments(data),
    ]
    if failure is None:
        return found
    told = [problem.where for problem in found]
    # What is said already is not said again by the shape of what is around it.
    shape = [
        problem
        for problem in type_problems(data, Settings)
        if not any(where[: len(problem.where)] == problem.where for where in told)
    ]
    return found + shape or [Problem((), failure)]


def _unknown(data: Mapping[str, Any]) -> Iterator[Problem]:
    plain = {key: value for key, value in data.items() if key != "providers"}
    yield from unknown_keys(plain, Settings)
    for name, section in _table(data, ("providers",)).items():
        yield from unknown_keys(section, ProviderSettings, ("providers", name))
    for key in ("version", "evidence_date"):
        if key in _table(data, _RULE):
            yield Problem((*_RULE, key), "is arbiter's own, for the record, and cannot be set")


# --- numbers ----------------------------------------------------------------------------------


class _Bounds(NamedTuple):
    holds: Callable[[Any], bool]
    what: str


_SPAN = _Bounds(lambda v: 0 < v <= TEN_YEARS_S, "must be above 0 seconds and at most ten years")
_SPAN_OR_NONE = _Bounds(lambda v: 0 <= v <= TEN_YEARS_S, "must be from 0 seconds to ten years")
_DAYS = _Bounds(lambda v: 1 <= v <= 36_500, "must be from 1 day to 36500, a hundred years")
_COUNT = _Bounds(lambda v: v >= 0, "must not be negative")
_SOME = _Bounds(lambda v: v >= 1, "must be at least 1")
_MONEY = _Bounds(lambda v: v > 0, "must be above 0")

_BOUNDS: Mapping[Where, _Bounds] = {
    ("daemon", "port"): _Bounds(lambda v: 0 <= v <= 65535, "must be from 0 to 65535"),
    ("daemon", "tick_s"): _SPAN,
    ("gateway", "port"): _Bounds(lambda v: 1 <= v <= 65535, "must be from 1 to 65535"),
    ("gateway", "workers"): _Bounds(lambda v: 1 <= v <= 64, "must be from 1 to 64"),
    ("gateway", "drain_s"): _SPAN,
    ("fleet", "launch_deadline_s"): _SPAN,
    ("fleet", "hedge_after_s"): _SPAN,
    ("fleet", "leave_s"): _SPAN_OR_NONE,
    ("scaling", "up_s"): _SPAN,
    ("scaling", "down_s"): _SPAN_OR_NONE,
    ("scaling", "gap_s"): _SPAN,
    ("scaling", "tolerance"): _Bounds(lambda v: 0 <= v < 1, "must be at least 0 and below 1"),
    ("scaling", "most_held"): _SOME,
    ("retention", "prices_days"): _DAYS,
    ("retention", "decisions_inputs_days"): _DAYS,
    ("retention", "polls_days"): _DAYS,
    ("retention", "events_days"): _DAYS,
    ("retention", "served_days"): _DAYS,
    ("policy", "max_quote_age_s"): _SPAN,
    ("policy", "max_usd_per_hour"): _MONEY,
    ("policy", "max_usd_per_mtok"): _MONEY,
    ("policy", "min_saving"): _Bounds(lambda v: 0 <= v < 1, "must be at least 0 and below 1"),
    ("policy", "spread_premium"): _Bounds(lambda v: 0 <= v <= 10, "must be from 0 to 10"),
    ("policy", "min_stay_s"): _SPAN_OR_NONE,
    ("policy", "max_moves_per_day"): _COUNT,
    ("policy", "fallback_after"): _SOME,
    ("policy", "fallback_window_s"): _SPAN_OR_NONE,
    ("policy", "churn_after"): _SOME,
    ("policy", "churn_window_s"): _SPAN,
    ("policy", "churn_hold_s"): _SPAN_OR_NONE,
    ("policy", "refusal_s"): _SPAN_OR_NONE,
    ("policy", "refusal_max_s"): _SPAN_OR_NONE,
    ("policy", "unhealthy_s"): _SPAN_OR_NONE,
    ("policy", "missing_cost"): _Bounds(lambda v: 0 <= v <= 10_000, "must be from 0 to 10000"),
    ("policy", "availability"): _Bounds(
        lambda v: 0.5 <= v <= 0.99999, "must be from 0.5 to 0.99999, a share of time"
    ),
    ("policy", "budget"): _Bounds(
        lambda v: 0 < v <= 10, "must be above 0 and at most 10, a share of all on demand"
    ),
    ("policy", "base_on_demand"): _COUNT,
    ("policy", "max_spares"): _COUNT,
    ("policy", "parked"): _COUNT,
    ("policy", "parked_max_s"): _SPAN,
    ("policy", "cold_start_s"): _SPAN,
}
_PROVIDER_BOUNDS = {
    "interval_s": _SPAN,
    "jitter": _Bounds(lambda v: 0 <= v < 1, "must be at least 0 and below 1"),
    "deadline_s": _SPAN,
    "requests_per_minute": _Bounds(lambda v: v > 0, "must be above 0"),
    "timeout_s": _SPAN,
    "max_attempts": _SOME,
}


def _numbers(data: Mapping[str, Any]) -> Iterator[Problem]:
    for where, bounds in _BOUNDS.items():
        yield from _outside(data, where, bounds)
    for name in _table(data, ("providers",)):
        for key, bounds in _PROVIDER_BOUNDS.items():
            yield from _outside(data, ("providers", name, key), bounds)
    policy, usual = _table(data, ("policy",)), Policy()
    if policy.get("spot") is False and policy.get("on_demand") is False:
        yield Problem(("policy",), "allows neither spot nor on_demand")
    if policy.get("availability") is not None and policy.get("budget") is not None:
        yield Problem(("policy", "budget"), "cannot be steered to beside availability: leave one")
    if policy.get("on_demand") is False and policy.get("base_on_demand"):
        yield Problem(("policy", "base_on_demand"), "needs on_demand, which is not allowed")
    if policy.get("on_demand") is False and policy.get("parked"):
        yield Problem(("policy", "parked"), "needs on_demand, which is not allowed")
    first = policy.get("refusal_s", usual.refusal_s)
    longest = policy.get("refusal_max_s", usual.refusal_max_s)
    if isinstance(first, int) and isinstance(longest, int) and first > longest:
        yield Problem(("policy", "refusal_max_s"), "must not be below refusal_s")


def _outside(data: Mapping[str, Any], where: Where, bounds: _Bounds) -> Iterator[Problem]:
    value = _table(data, where[:-1]).get(where[-1])
    if isinstance(value, str) and where[-1] in ("min_saving", "spread_premium", *_MONEY_KEYS):
        value = _decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return  # absent, or a wrong type, which the shape tells
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        yield Problem(where, "must be a finite number")
    elif not bounds.holds(value):
        yield Problem(where, bounds.what)


_MONEY_KEYS = ("max_usd_per_hour", "max_usd_per_mtok")


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except ArithmeticError:
        return None


# --- words ------------------------------------------------------------------------------------


def _words(data: Mapping[str, Any]) -> Iterator[Problem]:
    rule = _table(data, _RULE)
    yield from _one_of(rule.get("level"), (*_RULE, "level"), [level.value for level in Level])
    confidence = rule.get("minimum_confidence")
    yield from _one_of(confidence, (*_RULE, "minimum_confidence"), ["memory", "code", "docs"])
    floor = _table(data, ("policy",)).get("quality_floor")
    yield from _one_of(floor, ("policy", "quality_floor"), [one.value for one in Quantization])
    yield from _one_of(data.get("executor"), ("executor",), list(EXECUTORS))
    if _table(data, ("daemon",)).get("host") == "":
        yield Problem(("daemon", "host"), "must not be empty")
    yield from _gateway_words(_table(data, ("gateway",)))
    endpoint = _table(data, ("rates",)).get("endpoint")
    if isinstance(endpoint, str) and (wrong := _wrong_endpoint(endpoint)):
        yield Problem(("rates", "endpoint"), wrong)
    if _table(data, ("policy",)).get("name") == "":
        yield Problem(("policy", "name"), "must not be empty")
    url = data.get("database_url")
    if isinstance(url, str) and (wrong := _wrong_database(url)):
        yield Problem(("database_url",), wrong)


def _gateway_words(gateway: Mapping[Any, Any]) -> Iterator[Problem]:
    host = gateway.get("host")
    if isinstance(host, str) and not _is_address(host):
        yield Problem(("gateway", "host"), "must be an IP address, as 127.0.0.1 or 0.0.0.0")
    for part, other in (("cert", "key"), ("key", "cert")):
        if gateway.get(f"tls_{part}_file") and not gateway.get(f"tls_{other}_file"):
            yield Problem(("gateway", f"tls_{part}_file"), f"needs tls_{other}_file too")
    for key in ("url", "fallback_url"):
        url = gateway.get(key)
        if isinstance(url, str) and (wrong := _wrong_endpoint(url)):
            yield Problem(("gateway", key), wrong)
    names = gateway.get("client_key_envs")
    named = [("client_key_envs", name) for name in (names if isinstance(names, list) else ())]
    for where, name in [*named, ("fallback_key_env", gateway.get("fallback_key_env"))]:
        # Whoever wrote the key itself must not see it again in a log.
        if isinstance(name, str) and not _VARIABLE.fullmatch(name):
            yield Problem(("gateway", where), "must be the name of a variable, not a key")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _one_of(value: object, where: Where, words: list[str]) -> Iterator[Problem]:
    if isinstance(value, str) and value not in words:
        near = nearest(value, words)
        yield Problem(where, f"is {value!r}{near}" if near else f"must be {' or '.join(words)}")


def _wrong_database(url: str) -> str | None:
    """What is wrong with the URL. It may hold a password, so nothing of it is repeated."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "must be a URL: sqlite:////path/arbiter.db or postgresql://user@host/name"
    if scheme == "postgres":
        return "begins with postgres://, write postgresql://"
    if scheme not in ("sqlite", "postgresql", "postgresql+psycopg"):
        return "must begin with sqlite:/// or postgresql://"
    if scheme == "sqlite" and (not rest.startswith("/") or rest in ("/", "/:memory:")):
        return "must name a file: sqlite:////path/arbiter.db"
    return None


# --- providers and places ---------------------------------------------------------------------


def _providers(data: Mapping[str, Any]) -> Iterator[Problem]:
    for name, section in _table(data, ("providers",)).items():
        where: Where = ("providers", name)
        if name not in registry.BUILT_IN and name not in (known := registry.names()):
            near = nearest(name, list(known))
            yield Problem(where, f"is no provider{near}" if near else _known(known))
        if not isinstance(section, Mapping):
            continue
        endpoint = section.get("endpoint")
        if isinstance(endpoint, str) and (wrong := _wrong_endpoint(endpoint)):
            yield Problem((*where, "endpoint"), wrong)
        options = section.get("options")
        for key in options if isinstance(options, Mapping) else ():
            if _SECRET.search(str(key)):
                yield Problem(
                    (*where, "options", str(key)), "is a secret: keep it in the environment"
                )


def _known(names: tuple[str, ...]) -> str:
    return f"is no provider: there are {', '.join(names)}"


def _wrong_endpoint(url: str) -> str | None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or re.search(r"\s", url):
        return "must be an http or https URL"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or a password"
    return None


def _places(data: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("profiles_dir", "templates_dir"):
        folder = data.get(key)
        if isinstance(folder, Path) and not folder.is_dir():
            yield Problem((key,), f"{folder} is no folder")
    for key in ("allow", "deny"):
        selection = _selection(_table(data, (*_RULE, key)))
        if selection == Selection():
            continue
        from arbiter.regions import load_atlas, unknown_names

        for wrong in unknown_names(selection, load_atlas()):
            yield Problem((*_RULE, key), wrong)


def _commitments(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Commitments of machines that cannot be: of what nobody knows, of none, or told twice."""
    listed = _table(data, ("policy",)).get("commitments")
    met: set[tuple[object, ...]] = set()
    for index, one in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(one, Mapping):
            continue
        where: Where = ("policy", "commitments", index)
        count, usd = one.get("count"), one.get("usd_per_hour")
        usd = _decimal(usd) if isinstance(usd, str) else usd
        if isinstance(count, int) and count < 1:
            yield Problem((*where, "count"), "must be at least 1")
        if isinstance(usd, int | float | Decimal) and not (math.isfinite(usd) and usd >= 0):
            yield Problem((*where, "usd_per_hour"), "must not be negative")
        provider, region, machine = (
            one.get(key) for key in ("provider", "region", "instance_type")
        )
        if isinstance(provider, str) and isinstance(region, str):
            from arbiter.regions import load_atlas, unknown_names

            asked = Selection(providers=(provider,), regions=(f"{provider}/{region}",))
            for wrong in unknown_names(asked, load_atlas()):
                yield Problem(where, wrong)
        if (provider, region, machine) in met:
            yield Problem(where, f"{machine} in {provider}/{region} is listed twice: add them up")
        met.add((provider, region, machine))


def _selection(lists: Mapping[str, Any]) -> Selection:
    """The lists of names that are lists of names."""
    sound = {
        key: tuple(value)
        for key, value in lists.items()
        if key in ("countries", "providers", "regions", "operators")
        and isinstance(value, list)
        and all(isinstance(item, str) for item in value)
    }
    return Selection(**sound)


def _table(data: Mapping[str, Any], where: Where) -> Mapping[Any, Any]:
    """The table at a place; empty where there is none."""
    here: Any = data
    for step in where:
        here = here.get(step) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else {}
