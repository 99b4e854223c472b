"""The files that Envoy watches, as plain data: clusters, endpoints, routes. Pure.

Each service is one Envoy cluster of its name, with its endpoints in a file of its own, so that a
change to one service touches no other. Where a service has a backend on standby, two clusters more
lead to it. A version stands in every file: Envoy tells it back once it has taken the file.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from arbiter.errors import GatewayError
from arbiter.gateway.base import Backend, BackendState
from arbiter.gateway.boot import (
    CLUSTERS_FILE,
    METADATA,
    MODEL_FILTER,
    MOST_BODY,
    ROUTES,
    ROUTES_FILE,
    Json,
    from_file,
    header,
)

Services = Mapping[str, Sequence[Backend]]
Addresses = Mapping[str, str]
"""Host name -> IP address. A host that is an address itself is not in it."""

_TYPE = "type.googleapis.com/envoy"
_PROTOCOL = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CLUSTER = f"{_TYPE}.config.cluster.v3.Cluster"
_NO_LIMIT = 100_000
_ANY_SHARE = 1_000_000  # percent: one healthy replica of 10,000 takes all requests
_TCP_USER_TIMEOUT_MS = 8_000


def endpoints_file(service: str) -> str:
    """The name of a service's file."""
    return f"{service}.endpoints.json"


def standby(service: str) -> str:
    """The cluster of a service's backend on standby."""
    return f"{service}.standby"


def either(service: str) -> str:
    """The cluster that goes to standby when no replica is healthy."""
    return f"{service}.either"


def cluster_names(services: Services) -> set[str]:
    """Every cluster that these services need."""
    helped = {service for service, backends in services.items() if _helped(backends)}
    return {*services, *map(standby, helped), *map(either, helped)}


def render(
    folder: str, services: Services, keys: Sequence[str], addresses: Addresses, trusted: str
) -> dict[str, str]:
    """Every file, name -> text, in the order in which they are to be written.

    Args:
        folder: absolute, where the files will be.
        keys: of clients; with none, every request is refused.
        trusted: file with the authorities that certificates of https backends are checked with.

    Raises:
        GatewayError: a backend's URL cannot be used, or two backends share an address.
    """
    files = {
        endpoints_file(service): document([_assignment(service, backends, addresses)])
        for service, backends in sorted(services.items())
    }
    clusters = [
        cluster
        for service, backends in sorted(services.items())
        for cluster in _clusters(folder, service, backends, trusted)
    ]
    files[CLUSTERS_FILE] = document(clusters)
    files[ROUTES_FILE] = document([_routes(services, keys)])
    return files


def document(resources: Sequence[Json]) -> str:
    """The text of a file; its version is a digest of what it says."""
    body = json.dumps(resources, sort_keys=True, separators=(",", ":"))
    version = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f'{{"version_info":"{version}","resources":{body}}}\n'


def version_of(text: str) -> str:
    """The version that stands in a file's text."""
    found: str = json.loads(text)["version_info"]
    return found


def address_of(backend: Backend, addresses: Addresses) -> tuple[str, int]:
    """IP address and port of a backend.

    Raises:
        GatewayError: the URL is none of a backend, or its host's address is not known.
    """
    host, port, _ = target(backend)
    found = host if _is_address(host) else addresses.get(host)
    if found is None:
        raise GatewayError(f"the address of {backend.cluster} ({host}) is not known")
    return found, port


def target(backend: Backend) -> tuple[str, int, bool]:
    """Host, port and whether it is TLS.

    Raises:
        GatewayError: the URL is none of a backend.
    """
    try:
        parts = urlsplit(backend.url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    whole = host and parts.scheme in ("http", "https") and parts.username is None
    if not whole or parts.path.rstrip("/") not in ("", "/v1") or parts.query or parts.fragment:
        # A key may hide in it, so it is not repeated.
        raise GatewayError(
            f"the URL of {backend.cluster} is not http(s)://HOST[:PORT][/v1]",
            "the gateway sends /v1 paths on as they are",
        )
    assert host is not None
    tls = parts.scheme == "https"
    return host, port or (443 if tls else 80), tls


def _helped(backends: Sequence[Backend]) -> bool:
    return any(one.state is BackendState.STANDBY for one in backends)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# --- endpoints --------------------------------------------------------------------------------


def _assignment(service: str, backends: Sequence[Backend], addresses: Addresses) -> Json:
    endpoints = []
    seen: dict[tuple[str, int], str] = {}
    for backend in sorted(backends, key=lambda one: one.cluster):
        if backend.state is BackendState.STANDBY:
            continue
        address = address_of(backend, addresses)
        if address in seen:
            raise GatewayError(f"{backend.cluster} and {seen[address]} have the same address")
        seen[address] = backend.cluster
        serving = backend.state is BackendState.SERVING
        endpoints.append(
            _endpoint(backend, *address) | {"health_status": "HEALTHY" if serving else "DRAINING"}
        )
    return {
        "@type": f"{_TYPE}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": service,
        "endpoints": [{"lb_endpoints": endpoints}],
        "policy": {"overprovisioning_factor": _ANY_SHARE},
    }


def _endpoint(backend: Backend, host: str, port: int) -> Json:
    name, _, tls = target(backend)
    told = {} if backend.key is None else {"authorization": f"Bearer {backend.key}"}
    endpoint: Json = {"address": {"socket_address": {"address": host, "port_value": port}}}
    if tls:
        endpoint |= {"hostname": name, "health_check_config": {"hostname": name}}
    return {
        "endpoint": endpoint,
        "metadata": {
            "filter_metadata": {METADATA: told, "envoy.transport_socket_match": {"tls": tls}}
        },
    }


# --- clusters ---------------------------------------------------------------------------------


def _clusters(folder: str, service: str, backends: Sequence[Backend], trusted: str) -> list[Json]:
    own = _replicas(folder, service, trusted)
    waiting = [one for one in backends if one.state is BackendState.STANDBY]
    if len(waiting) > 1:
        raise GatewayError(f"{service} has more than one backend on standby")
    if not waiting:
        return [own]
    both = {
        "@type": _CLUSTER,
        "name": either(service),
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "2s",
        "circuit_breakers": _without_limits(),
        # The router reads these of this cluster, not of the two below: without them a client's
        # key would go to the replica.
        "typed_extension_protocol_options": {_PROTOCOL: _protocol()},
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [service, standby(service)],
            },
        },
    }
    return [own, _external(service, waiting[0], trusted), both]


def _replicas(folder: str, service: str, trusted: str) -> Json:
    return {
        **_common(service, trusted),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": from_file(f"{folder}/{endpoints_file(service)}")},
        "ignore_health_on_host_removal": True,
        "common_lb_config": {
            "healthy_panic_threshold": {"value": 0},  # never send to whoever is known to be down
            "update_merge_window": "0s",  # or a new replica waits a second
        },
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/health"},
            }
        ],
        # Only what never got an answer counts: a 503 of vLLM means busy, and is retried elsewhere.
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": "5s",  # at most: a health check that passes ends it
            "max_ejection_percent": 100,
        },
        # With few replicas the least busy one is found exactly; a draw of two would often miss it.
        "load_balancing_policy": {
            "policies": [
                {
                    "typed_extension_config": {
                        "name": "envoy.load_balancing_policies.least_request",
                        "typed_config": {
                            "@type": f"{_TYPE}.extensions.load_balancing_policies.least_request.v3"
                            ".LeastRequest",
                            "selection_method": "FULL_SCAN",
                        },
                    }
                }
            ]
        },
    }


def _external(service: str, backend: Backend, trusted: str) -> Json:
    """An API of somebody else: its name is looked up by Envoy, and nothing checks its health."""
    host, port, _ = target(backend)
    endpoint = _endpoint(backend, host, port)
    endpoint["endpoint"]["hostname"] = host
    return {
        **_common(standby(service), trusted),
        "type": "LOGICAL_DNS",
        "dns_lookup_family": "ALL",
        "load_assignment": {
            "cluster_name": standby(service),
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _common(name: str, trusted: str) -> Json:
    return {
        "@type": _CLUSTER,
        "name": name,
        "connect_timeout": "2s",
        "circuit_breakers": _without_limits(),
        # A machine that vanished answers no packet: these notice it within some ten seconds.
        "upstream_connection_options": {
            "tcp_keepalive": {
                "keepalive_time": 5,
                "keepalive_interval": 2,
                "keepalive_probes": 3,
            }
        },
        "upstream_bind_config": {
            "socket_options": [
                {
                    "level": 6,
                    "name": 18,
                    "int_value": _TCP_USER_TIMEOUT_MS,
                    "state": "STATE_PREBIND",
                    "description": "TCP_USER_TIMEOUT",
                }
            ]
        },
        "typed_extension_protocol_options": {_PROTOCOL: _protocol()},
        "transport_socket_matches": _transports(trusted),
    }


def _without_limits() -> Json:
    """Envoy's own limits stand at 1,024 requests and 3 retries at a time."""
    names = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(names, _NO_LIMIT)]}


def _protocol() -> Json:
    """HTTP/1.1, a connection left before uvicorn leaves it (5 s), and the replica's own key."""
    key = header("authorization", f"%UPSTREAM_METADATA({METADATA}:authorization)%")
    return {
        "@type": f"type.googleapis.com/{_PROTOCOL}",
        "common_http_protocol_options": {"idle_timeout": "3s"},
        "explicit_http_config": {"http_protocol_options": {}},
        "http_filters": [
            {
                "name": "envoy.filters.http.header_mutation",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.filters.http.header_mutation.v3.HeaderMutation",
                    "mutations": {
                        # A retry may go from a replica with a key to one without.
                        "request_mutations": [{"remove": "authorization"}, {"append": key}]
                    },
                },
            },
            {
                "name": "envoy.filters.http.upstream_codec",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
                },
            },
        ],
    }


def _transports(trusted: str) -> list[Json]:
    sockets = f"{_TYPE}.extensions.transport_sockets"
    return [
        {
            "name": "tls",
            "match": {"tls": True},
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": f"{sockets}.tls.v3.UpstreamTlsContext",
                    "auto_host_sni": True,
                    "auto_sni_san_validation": True,
                    "common_tls_context": {
                        "validation_context": {"trusted_ca": {"filename": trusted}}
                    },
                },
            },
        },
        {
            "name": "plain",
            "match": {},
            "transport_socket": {
                "name": "envoy.transport_sockets.raw_buffer",
                "typed_config": {"@type": f"{sockets}.raw_buffer.v3.RawBuffer"},
            },
        },
    ]


# --- routes -----------------------------------------------------------------------------------


def _routes(services: Services, keys: Sequence[str]) -> Json:
    """Nothing is let through but what a route with a client's key names."""
    routes: list[Json] = []
    for key in keys:
        shown = [{"name": "authorization", "string_match": {"exact": f"Bearer {key}"}}]
        for service, backends in sorted(services.items()):
            match = {"path_separated_prefix": f"/{service}/v1", "headers": shown}
            routes.append(_to(service, backends, match))
        routes += _plain(services, shown)
        routes.append(_answer({"prefix": "/", "headers": shown}, 404, _NO_SUCH_PATH))
    routes.append(_answer({"prefix": "/"}, 401, _NO_KEY))
    return {
        "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "max_direct_response_body_size_bytes": 1 << 20,
        "virtual_hosts": [
            {
                "name": "clients",
                "domains": ["*"],
                "retry_policy": _RETRIES,
                "request_body_buffer_limit": MOST_BODY,
                # A client's key and address go no further.
                "request_headers_to_remove": ["authorization", "x-envoy-external-address"],
                "routes": routes,
            }
        ],
    }


def _to(service: str, backends: Sequence[Backend], match: Json) -> Json:
    helped = _helped(backends)
    return {
        "name": service,
        "stat_prefix": service,
        "match": match,
        "route": {
            "cluster": either(service) if helped else service,
            "prefix_rewrite": "/v1",
            "timeout": "0s",
            "auto_host_rewrite": helped,
        },
    }


def _plain(services: Services, shown: Sequence[Json]) -> list[Json]:
    """/v1 without a service: the only one, or the one whose model the body names."""
    match: Json = {"path_separated_prefix": "/v1", "headers": shown}
    if len(services) == 1:
        ((service, backends),) = services.items()
        return [_to(service, backends, match)]
    by_model = _by_model(services)
    routes = [
        _to(service, services[service], match | {"dynamic_metadata": [_model_is(model)]})
        for model, service in sorted(by_model.items())
    ]
    routes.append(
        _answer({"path": "/v1/models", "headers": shown}, 200, _model_list(sorted(by_model)))
    )
    unknown = _answer(match, 404, _NO_SUCH_MODEL)
    unknown["typed_per_filter_config"] = {
        MODEL_FILTER: {"@type": f"{_TYPE}.config.route.v3.FilterConfig", "config": {}}
    }
    return [*routes, unknown]


def _by_model(services: Services) -> dict[str, str]:
    """Model -> the only service that serves it. A model of two services has a path only."""
    found: dict[str, set[str]] = {}
    for service, backends in services.items():
        for backend in backends:
            if backend.model is not None:
                found.setdefault(backend.model, set()).add(service)
    return {model: next(iter(names)) for model, names in found.items() if len(names) == 1}


def _model_is(model: str) -> Json:
    return {
        "filter": METADATA,
        "path": [{"key": "model"}],
        "value": {"string_match": {"exact": model}},
    }


def _answer(match: Json, status: int, body: Mapping[str, Any]) -> Json:
    text = json.dumps(body) + "\n"
    headers = [header("content-type", "application/json")]
    if status == 401:
        headers.append(header("www-authenticate", "Bearer"))
    return {
        "name": "arbiter",
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "response_headers_to_add": headers,
    }


def _error(message: str, code: str) -> Mapping[str, Any]:
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": code,
        }
    }


def _model_list(models: Sequence[str]) -> Mapping[str, Any]:
    entries = [
        {"id": model, "object": "model", "created": 0, "owned_by": "arbiter"} for model in models
    ]
    return {"object": "list", "data": entries}


_NO_KEY = _error("the API key is missing or not known", "invalid_api_key")
_NO_SUCH_PATH = _error("there is no such service, or the path is not below /v1", "not_found")
_NO_SUCH_MODEL = _error(
    "no service, or more than one, serves the model that the body names; "
    "see /v1/models, or use /SERVICE/v1",
    "model_not_found",
)
_RETRIES: Json = {
    # Only before the first byte of an answer; an answer that has begun is never repeated.
    "retry_on": "connect-failure,refused-stream,reset-before-request,reset,retriable-status-codes",
    "retriable_status_codes": [500, 502, 503, 504],
    "num_retries": 3,
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}
