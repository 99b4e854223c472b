"""What is made of the SDK's answers. That the SDK answers so is tested where SkyPilot runs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from arbiter.errors import ArbiterError, LaunchError, LaunchRejected
from arbiter.executors.sky_client import SdkClient


class HttpLibraryError(OSError):
    """Named and placed as the HTTP library's own."""


HttpLibraryError.__name__ = "ConnectionError"
HttpLibraryError.__module__ = "requests.exceptions"


class RequestInterruptedError(Exception):
    """SkyPilot's: both of a request and of the way to it."""


def a_client(get: Callable[[str], Any]) -> SdkClient:
    return SdkClient(SimpleNamespace(get=get))


def raising(error: Exception) -> Callable[[str], Any]:
    def get(request_id: str) -> Any:
        raise error

    return get


def from_the_server(error: Exception) -> Exception:
    """SkyPilot's SDK hangs the server's stack trace on every error that it hands over."""
    error.stacktrace = "Traceback ..."  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("the cloud hung up"),
        TimeoutError("the cloud was slow"),
        from_the_server(RequestInterruptedError("the server restarted")),
        from_the_server(HttpLibraryError("the cloud hung up")),
    ],
)
def test_a_launch_that_lost_the_cloud_has_failed(error: Exception) -> None:
    failure = a_client(raising(error)).failure("id")
    assert isinstance(failure, LaunchError)
    assert str(error) in failure.message


@pytest.mark.parametrize(
    "error", [HttpLibraryError("refused"), RequestInterruptedError("the server restarts")]
)
def test_while_the_api_server_is_away_no_launch_has_failed(error: Exception) -> None:
    with pytest.raises(ArbiterError, match="does not answer") as away:
        a_client(raising(error)).failure("id")
    assert not isinstance(away.value, LaunchError)


def test_a_launch_that_was_refused_later_is_refused() -> None:
    failure = a_client(raising(ValueError("no such region"))).failure("id")
    assert isinstance(failure, LaunchRejected)


def test_a_failure_without_an_error_is_still_one() -> None:
    failure = a_client(lambda request_id: None).failure("id")
    assert "tells no reason" in failure.message
