"""SkyPilot's errors, as its own classes raise them."""

from __future__ import annotations

import ast
import builtins
from importlib.util import find_spec
from pathlib import Path

import pytest

from arbiter.errors import ArbiterError, LaunchError, LaunchRejected, NoCapacity, QuotaExceeded
from arbiter.executors import sky_errors
from arbiter.executors.sky_errors import LONGEST, launch_error, one_line, unreachable


# Stand-ins by name and bases, as the mapping sees them: importing SkyPilot takes seconds. That its
# own classes are called so is tested where SkyPilot runs.
class ResourcesUnavailableError(Exception):
    def __init__(self, message: str, history: tuple[Exception, ...] = ()) -> None:
        super().__init__(message)
        self.failover_history = history


class ResourcesMismatchError(Exception):
    pass


class ClusterDoesNotExist(ValueError):
    pass


class RequestCancelled(Exception):
    pass


class CommandError(Exception):
    pass


class ApiServerConnectionError(RuntimeError):
    pass


class ApiServerAuthenticationError(RuntimeError):
    pass


class APIVersionMismatchError(RuntimeError):
    pass


NOWHERE = "Failed to acquire resources in eu-north-1c for g6.xlarge."


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ResourcesUnavailableError(NOWHERE, (Exception("aws/eu-north-1c"),)), NoCapacity),
        (ResourcesUnavailableError(NOWHERE), NoCapacity),
        (ResourcesUnavailableError(NOWHERE, (Exception("VcpuLimitExceeded"),)), QuotaExceeded),
        (ResourcesUnavailableError(NOWHERE, (Exception("MaxSpotInstanceCountExceeded"),)),
         QuotaExceeded),
        (ResourcesUnavailableError("Quota 'GPUS' exceeded"), QuotaExceeded),
        (ResourcesUnavailableError("Catalog does not contain any instances satisfying the request"),
         LaunchRejected),
        (ResourcesMismatchError("Requested resources do not match"), LaunchRejected),
        (ValueError("Invalid region 'eu-nowhere-9'"), LaunchRejected),
        (ClusterDoesNotExist("gone"), LaunchRejected),
        (CommandError("setup failed with return code 1"), LaunchError),
        (RequestCancelled("by another process"), LaunchError),
        (RuntimeError("something else"), LaunchError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)  # fmt: skip
def test_the_kind_steers_what_happens_next(error: Exception, kind: type[LaunchError]) -> None:
    assert type(launch_error(error)) is kind
    assert unreachable(error) is None


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ApiServerConnectionError("http://127.0.0.1:46580"), "sky api start"),
        (ApiServerAuthenticationError("http://elsewhere"), "sky api login"),
        (APIVersionMismatchError("the server is older"), "SkyPilot 0.14.1"),
        (ConnectionError("refused"), "sky api start"),
        (ConnectionResetError(104, "reset"), "sky api start"),
        (TimeoutError("timed out"), "sky api start"),
        (
            RuntimeError("No SkyPilot API server endpoint is configured, and starting one is off"),
            "sky api start",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_silent_api_server_is_no_failed_launch(error: Exception, hint: str) -> None:
    found = unreachable(error)
    assert isinstance(found, ArbiterError)
    assert not isinstance(found, LaunchError)
    assert hint in str(found)


def test_a_message_is_one_plain_line() -> None:
    coloured = ValueError("\n  \x1b[31mNo such region.\x1b[0m\nTry one of these:\n- a\n- b")
    assert one_line(coloured) == "No such region"
    assert len(one_line(ValueError("x" * 10_000))) == LONGEST
    assert one_line(ValueError("")) == "no reason given"


def test_skypilot_has_classes_of_these_names() -> None:
    found = find_spec("sky")
    if found is None or found.origin is None:
        pytest.skip("needs SkyPilot: pip install 'arbiter[skypilot]'")
    source = Path(found.origin).with_name("exceptions.py").read_text(encoding="utf-8")
    theirs = {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    stand_ins = {
        ResourcesUnavailableError,
        ResourcesMismatchError,
        ClusterDoesNotExist,
        RequestCancelled,
        CommandError,
        ApiServerConnectionError,
        ApiServerAuthenticationError,
        APIVersionMismatchError,
    }
    assert {one.__name__ for one in stand_ins} <= theirs
    of_python = {name for name in sky_errors.NAMED if hasattr(builtins, name)}
    assert sky_errors.NAMED - of_python - sky_errors.OF_REQUESTS <= theirs
