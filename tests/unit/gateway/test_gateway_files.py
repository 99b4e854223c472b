"""What Envoy is told, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.errors import GatewayError
from arbiter.gateway.addresses import target
from arbiter.gateway.base import Backend, BackendState
from arbiter.gateway.clusters import cluster_names
from arbiter.gateway.files import render, version_of

Services = Mapping[str, Sequence[Backend]]
CA = "/etc/ssl/ca.pem"


def backend(name: str, port: int = 8000, **more: Any) -> Backend:
    return Backend(name, f"http://10.0.0.{port % 250 + 1}:{port}", **more)


def files(services: Services, keys: Sequence[str] = ("sk-a",)) -> dict[str, Any]:
    rendered = render("/conf", services, keys, {"replica.example": "10.9.9.9"}, CA)
    return {name: json.loads(text)["resources"] for name, text in rendered.items()}


def routes(services: Services, keys: Sequence[str] = ("sk-a",)) -> list[dict[str, Any]]:
    (table,) = files(services, keys)["routes.json"]
    found: list[dict[str, Any]] = table["virtual_hosts"][0]["routes"]
    return found


def hosts(services: Services, service: str = "svc") -> dict[str, str]:
    """address:port -> health of a service's endpoints."""
    (told,) = files(services)[f"{service}.endpoints.json"]
    found = {}
    for one in told["endpoints"][0]["lb_endpoints"]:
        place = one["endpoint"]["address"]["socket_address"]
        found[f"{place['address']}:{place['port_value']}"] = one["health_status"]
    return found


names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
keys = st.from_regex(r"[A-Za-z0-9._~+/=-]{8,40}", fullmatch=True)
backends = st.lists(
    st.builds(
        backend,
        names,
        st.integers(1, 65535),
        key=st.none() | keys,
        model=st.none() | st.sampled_from(["llama", "qwen"]),
        state=st.sampled_from([BackendState.SERVING, BackendState.DRAINING]),
    ),
    max_size=3,
    unique_by=(lambda one: one.cluster, lambda one: one.url),
)
some_services = st.dictionaries(names, backends, max_size=4)


@given(some_services, st.lists(keys, max_size=3, unique=True))
def test_nothing_is_forwarded_without_a_clients_key(services: Services, shown: list[str]) -> None:
    *others, last = routes(services, shown)
    assert last["match"] == {"prefix": "/"}
    assert last["direct_response"]["status"] == 401
    allowed = {f"Bearer {key}" for key in shown}
    for route in others:
        (header,) = route["match"]["headers"]
        assert header["name"] == "authorization"
        assert header["string_match"]["exact"] in allowed
        assert "invert_match" not in header


@given(some_services, st.lists(keys, min_size=1, max_size=3, unique=True))
def test_every_route_leads_to_a_cluster_that_is_told(services: Services, shown: list[str]) -> None:
    told = {one["name"] for one in files(services, shown)["clusters.json"]}
    assert told == cluster_names(services)
    led = {one["route"]["cluster"] for one in routes(services, shown) if "route" in one}
    assert led == set(services)


@given(some_services, some_services)
def test_a_version_changes_with_what_is_said_and_with_nothing_else(
    one: Services, other: Services
) -> None:
    first = render("/conf", one, ["sk-a"], {}, CA)
    turned = {name: list(reversed(one[name])) for name in reversed(one)}
    assert render("/conf", turned, ["sk-a"], {}, CA) == first
    second = render("/conf", other, ["sk-a"], {}, CA)
    for name in first.keys() & second.keys():
        same = first[name] == second[name]
        assert (version_of(first[name]) == version_of(second[name])) is same


def test_a_drained_backend_stays_known_and_gets_nothing() -> None:
    told = {"svc": [backend("a", 1), backend("b", 2, state=BackendState.DRAINING)]}
    assert hosts(told) == {"10.0.0.2:1": "HEALTHY", "10.0.0.3:2": "DRAINING"}


def test_a_change_to_one_service_changes_no_other_services_file() -> None:
    before = render("/c", {"a": [backend("x", 1)], "b": [backend("y", 2)]}, ["k"], {}, CA)
    after = render("/c", {"a": [backend("x", 1)], "b": []}, ["k"], {}, CA)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"b.endpoints.json"}


def test_keys_of_replicas_are_in_no_file_but_their_services() -> None:
    rendered = render("/c", {"a": [backend("x", key="secret-key")]}, ["client-key"], {}, CA)
    assert [name for name, text in rendered.items() if "secret-key" in text] == ["a.endpoints.json"]
    assert [name for name, text in rendered.items() if "client-key" in text] == ["routes.json"]


def test_plain_v1_is_the_only_service_or_goes_by_the_models_name() -> None:
    def plain(services: Services) -> dict[str, str]:
        found = {}
        for route in routes(services):
            if route["match"].get("path_separated_prefix") == "/v1" and "route" in route:
                metadata = route["match"].get("dynamic_metadata")
                model = metadata[0]["value"]["string_match"]["exact"] if metadata else "any"
                found[model] = route["route"]["cluster"]
        return found

    a, b = [backend("x", 1, model="llama")], [backend("y", 2, model="qwen")]
    assert plain({}) == {}
    assert plain({"a": a}) == {"any": "a"}
    assert plain({"a": a, "b": b}) == {"llama": "a", "qwen": "b"}
    assert plain({"a": a, "b": b, "c": a}) == {"qwen": "b"}, "a model of two services is neither's"
    assert plain({"a": a, "b": []}) == {"llama": "a"}


def test_a_service_may_have_any_name() -> None:
    """Names that are also words of the gateway's own paths."""
    found = [one["match"].get("path_separated_prefix") for one in routes({"v1": [], "health": []})]
    assert found[:2] == ["/health/v1", "/v1/v1"], "before plain /v1"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://10.0.0.1:8000", ("10.0.0.1", 8000, False)),
        ("http://10.0.0.1:8000/", ("10.0.0.1", 8000, False)),
        ("http://[fd00::1]:8000/v1", ("fd00::1", 8000, False)),
        ("https://replica.example", ("replica.example", 443, True)),
        ("http://replica.example/v1/", ("replica.example", 80, False)),
    ],
)
def test_where_a_backend_is(url: str, expected: tuple[str, int, bool]) -> None:
    assert target(Backend("a", url)) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.1:8000",
        "ftp://10.0.0.1",
        "http://",
        "http://10.0.0.1:port",
        "http://10.0.0.1:99999",
        "http://secret@10.0.0.1",
        "http://10.0.0.1/v1?key=secret",
        "http://10.0.0.1/v1#secret",
        "http://10.0.0.1/secret/v1",
    ],
)
def test_a_url_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(GatewayError, match="the URL of cluster-a is not") as caught:
        target(Backend("cluster-a", url))
    assert "secret" not in str(caught.value)


def test_a_named_host_needs_an_address() -> None:
    told = {"svc": [Backend("a", "https://replica.example:8443")]}
    assert hosts(told) == {"10.9.9.9:8443": "HEALTHY"}
    (endpoint,) = files(told)["svc.endpoints.json"][0]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["hostname"] == "replica.example", "its certificate must name it"
    with pytest.raises(GatewayError, match=r"the address of a \(unknown\) is not known"):
        files({"svc": [Backend("a", "http://unknown:1")]})


def test_two_backends_with_one_name_or_address_are_refused() -> None:
    with pytest.raises(GatewayError, match="b and a have the same address"):
        files({"svc": [backend("a", 1), backend("b", 1)]})
    with pytest.raises(GatewayError, match="two backends of svc have the same name"):
        files({"svc": [backend("a", 1), backend("a", 2)]})


def test_one_backend_on_standby_and_no_more() -> None:
    waiting = Backend("api", "https://api.example/v1", "k", None, BackendState.STANDBY)
    told = {"svc": [backend("a"), waiting]}
    assert {one["name"] for one in files(told)["clusters.json"]} == {
        "svc",
        "svc.standby",
        "svc.either",
    }
    assert hosts(told) == {"10.0.0.1:8000": "HEALTHY"}
    (forward,) = {one["route"]["cluster"] for one in routes(told) if "route" in one}
    assert forward == "svc.either"
    with pytest.raises(GatewayError, match="more than one backend on standby"):
        files({"svc": [waiting, Backend("b", "https://b", state=BackendState.STANDBY)]})


def test_a_key_is_not_part_of_what_a_backend_prints() -> None:
    assert "hidden" not in repr(backend("a", key="hidden"))
