"""Envoy's clusters and their endpoints, as plain data. Pure.

Each service is one cluster of its name, with its endpoints in a file of its own, so that a change
to one service touches no other. Where a service has a backend on standby, or holds requests, two
clusters more lead there.
"""

from __future__ import annotations

from collections.abc import Sequence

from arbiter.errors import GatewayError
from arbiter.gateway.addresses import Addresses, Services, address_of, target
from arbiter.gateway.base import Backend, BackendState
from arbiter.gateway.boot import METADATA, Json, from_file, header
from arbiter.gateway.waiting import SOCKET, held_as

_TYPE = "type.googleapis.com/envoy"
_PROTOCOL = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CLUSTER = f"{_TYPE}.config.cluster.v3.Cluster"
_NO_LIMIT = 100_000
_ANY_SHARE = 1_000_000  # percent: one healthy replica of 10,000 takes all requests
_TCP_USER_TIMEOUT_MS = 8_000


HELPING = (BackendState.STANDBY, BackendState.WAITING)
"""States of what is no replica."""


def endpoints_file(service: str) -> str:
    """The name of a service's file."""
    return f"{service}.endpoints.json"


def standby(service: str) -> str:
    """The cluster of a service's backend on standby."""
    return f"{service}.standby"


def waiting(service: str) -> str:
    """The cluster of a service's requests that wait."""
    return f"{service}.waiting"


def either(service: str) -> str:
    """The cluster that goes to standby, or waits, when no replica is healthy."""
    return f"{service}.either"


def cluster_names(services: Services) -> set[str]:
    """Every cluster that these services need."""
    more = {service: helper(service, backends) for service, backends in services.items()}
    helpers = {service: name for service, name in more.items() if name is not None}
    return {*services, *helpers.values(), *map(either, helpers)}


def helper(service: str, backends: Sequence[Backend]) -> str | None:
    """The cluster that is asked while no replica is healthy; None where there is none.

    An external API answers at once, so nothing waits where there is one.
    """
    if any(one.state is BackendState.STANDBY for one in backends):
        return standby(service)
    return waiting(service) if any(one.holds for one in backends) else None


# --- endpoints ------------------------------------------------------------------------------


def assignment(service: str, backends: Sequence[Backend], addresses: Addresses) -> Json:
    """The endpoints of one service.

    Raises:
        GatewayError: a URL cannot be used, or two backends share a name or an address.
    """
    if len({one.cluster for one in backends}) < len(backends):
        raise GatewayError(f"two backends of {service} have the same name")
    endpoints = []
    seen: dict[tuple[str, int], str] = {}
    for backend in sorted(backends, key=lambda one: one.cluster):
        if backend.state in HELPING:
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


# --- clusters -------------------------------------------------------------------------------


def clusters(folder: str, service: str, backends: Sequence[Backend], trusted: str) -> list[Json]:
    """The clusters of one service.

    Raises:
        GatewayError: more than one of its backends is on standby.
    """
    own = _replicas(folder, service, trusted)
    external = [one for one in backends if one.state is BackendState.STANDBY]
    if len(external) > 1:
        raise GatewayError(f"{service} has more than one backend on standby")
    name = helper(service, backends)
    if name is None:
        return [own]
    help_ = (
        _external(service, external[0], trusted)
        if external
        else _room(service, next(one for one in backends if one.holds))
    )
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
                "clusters": [service, name],
            },
        },
    }
    return [own, help_, both]


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
                "timeout": "2s",  # a server under full load is slow to say that it is well
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
        # The less busy one of two drawn at random. Always the least busy one of all would be a
        # replica that refuses everything at once, and a retry would find it again and again.
        "load_balancing_policy": {
            "policies": [
                {
                    "typed_extension_config": {
                        "name": "envoy.load_balancing_policies.least_request",
                        "typed_config": {
                            "@type": f"{_TYPE}.extensions.load_balancing_policies.least_request.v3"
                            ".LeastRequest",
                            "choice_count": 2,
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


def _room(service: str, backend: Backend) -> Json:
    """A socket beside the folder that Envoy is started in. What is held there is told as a key."""
    ticket = held_as(service, backend.hold_s, backend.most_held)
    endpoint = {
        "endpoint": {"address": {"pipe": {"path": f"../{SOCKET}"}}},
        "metadata": {"filter_metadata": {METADATA: {"authorization": f"Bearer {ticket}"}}},
    }
    return {
        "@type": _CLUSTER,
        "name": waiting(service),
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": _without_limits(),
        "typed_extension_protocol_options": {_PROTOCOL: _protocol()},
        "load_assignment": {
            "cluster_name": waiting(service),
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
