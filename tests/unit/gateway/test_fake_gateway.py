"""The fake keeps the promises of the protocol, and the figures come out of any gateway."""

from __future__ import annotations

import pytest

from arbiter.errors import GatewayError
from arbiter.gateway.base import Backend, BackendState, Counts, Gateway
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.gateway.fake import FakeGateway
from arbiter.gateway.figures import UP, collect

A, B = Backend("a", "http://127.0.0.1:1"), Backend("b", "http://127.0.0.1:2")


def started() -> FakeGateway:
    made = FakeGateway()
    made.start()
    return made


def test_both_are_gateways() -> None:
    assert isinstance(FakeGateway(), Gateway)
    assert issubclass(EnvoyGateway, Gateway)


def test_it_remembers_what_it_was_told_once_each() -> None:
    gateway = started()
    gateway.serve("svc", [B, A])
    gateway.serve("svc", [A, B])
    gateway.serve("svc", [B])
    assert gateway.history == [("svc", (A, B)), ("svc", (B,))]
    assert gateway.clusters("svc", BackendState.SERVING) == ["b"]
    gateway.forget("svc")
    gateway.forget("svc")
    assert gateway.services == {}


def test_idle_is_seen_twice_and_begins_anew_with_a_request() -> None:
    gateway = started()
    gateway.serve("svc", [A])
    gateway.requests["svc", "a"] = 2
    assert (gateway.active("svc", "a"), gateway.idle("svc", "a")) == (2, False)
    gateway.requests["svc", "a"] = 0
    assert [gateway.idle("svc", "a") for _ in range(3)] == [False, True, True]
    gateway.requests["svc", "a"] = 1
    assert not gateway.idle("svc", "a")
    gateway.requests["svc", "a"] = 0
    assert [gateway.idle("svc", "a") for _ in range(2)] == [False, True]
    assert gateway.idle("svc", "unknown")


def test_a_killed_one_keeps_what_it_was_told_and_says_that_it_does_not_run() -> None:
    gateway = started()
    gateway.serve("svc", [A])
    gateway.kill()
    assert not gateway.health().running
    with pytest.raises(GatewayError, match="does not run"):
        gateway.serve("svc", [B])
    gateway.start()
    assert gateway.clusters("svc", BackendState.SERVING) == ["b"]


def test_a_failing_one_changes_nothing() -> None:
    gateway = started()
    gateway.failing = "out of order"
    for call in (gateway.start, lambda: gateway.serve("svc", [A]), gateway.counts):
        with pytest.raises(GatewayError, match="out of order"):
            call()
    assert gateway.services == {}
    assert gateway.health().error == "out of order"


def test_figures_are_plain_numbers_by_service() -> None:
    gateway = started()
    gateway.serve("svc", [A])
    gateway.passed["svc"] = Counts(requests=9, errors=1, retried=2, cut=3, active=4, held=1)
    found = {(one.name, one.labels.get("service")): one.value for one in collect(gateway)}
    assert found == {
        (UP, None): 1,
        ("arbiter_gateway_retiring", None): 0,
        ("arbiter_gateway_config_rejected", None): 0,
        ("arbiter_gateway_requests", "svc"): 9,
        ("arbiter_gateway_errors", "svc"): 1,
        ("arbiter_gateway_retried", "svc"): 2,
        ("arbiter_gateway_cut", "svc"): 3,
        ("arbiter_gateway_active", "svc"): 4,
        ("arbiter_gateway_held", "svc"): 1,
    }


def test_of_a_gateway_that_does_not_run_only_that_is_told() -> None:
    gateway = FakeGateway(failing="gone")
    assert {one.name: one.value for one in collect(gateway)} == {
        UP: 0,
        "arbiter_gateway_retiring": 0,
    }
