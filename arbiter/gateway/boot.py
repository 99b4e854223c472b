"""What Envoy is started with, as plain data: listener, HTTP rules, administration. Pure.

Everything that changes while it runs is in the files of `arbiter.gateway.files`; a change in here
needs another process, which takes over without a lost request (`arbiter.gateway.process`).
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

ADMIN_SOCKET = "admin.sock"
"""Relative to the folder that Envoy is started in: the path of a socket has at most 107 bytes."""

CUT_LOG = "cut"
"""Likewise relative; see `_cut_log`."""

ROUTES = "routes"
CLUSTERS_FILE = "clusters.json"
ROUTES_FILE = "routes.json"

RETRY_AFTER_S = 10
"""What a client is told when nothing can answer: the OpenAI clients wait so long and try again."""

MOST_BODY = 64 << 20
"""Bytes of a request that are kept so that it can be sent again; a longer one is sent once."""

MOST_CONNECTIONS = 50_000

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_UNAVAILABLE = (
    '{"error": {"message": "no replica of this model can answer now, try again later", '
    '"type": "service_unavailable", "param": null, "code": "no_replica"}}\n'
)
_TOO_LONG = (
    '{"error": {"message": "the request is too long", "type": "invalid_request_error", '
    '"param": null, "code": "request_too_long"}}\n'
)
_SOL_SOCKET, _IPPROTO_TCP = 1, 6
_KEEPALIVE = (  # a client that vanished without a word frees its place on the GPU
    (_SOL_SOCKET, 9, 1, "SO_KEEPALIVE"),
    (_IPPROTO_TCP, 4, 60, "TCP_KEEPIDLE"),
    (_IPPROTO_TCP, 5, 15, "TCP_KEEPINTVL"),
    (_IPPROTO_TCP, 6, 4, "TCP_KEEPCNT"),
    (_IPPROTO_TCP, 18, 60_000, "TCP_USER_TIMEOUT"),
)


def bootstrap(folder: str, host: str, port: int, tls: tuple[str, str] | None = None) -> Json:
    """The complete start configuration.

    Args:
        folder: absolute, of the files that are watched.
        host: the address to listen on; an IP address.
        tls: paths of the certificate's chain and of its key; None listens in plain text.
    """
    return {
        "node": {"id": "arbiter", "cluster": "arbiter"},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {"cds_config": from_file(f"{folder}/{CLUSTERS_FILE}")},
        "static_resources": {"listeners": [_listener(folder, host, port, tls)]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_EXTENSIONS}.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MOST_CONNECTIONS,
                    },
                }
            ]
        },
    }


def from_file(path: str) -> Json:
    """A source of configuration that is read again whenever the file is replaced."""
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def _listener(folder: str, host: str, port: int, tls: tuple[str, str] | None) -> Json:
    chain: Json = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _http(folder),
            }
        ]
    }
    if tls is not None:
        chain["transport_socket"] = _tls(*tls)
    return {
        "name": "clients",
        "address": {"socket_address": {"address": host, "port_value": port}},
        "socket_options": [
            {"level": level, "name": name, "int_value": value, "description": description}
            for level, name, value, description in _KEEPALIVE
        ],
        "per_connection_buffer_limit_bytes": MOST_BODY,
        "filter_chains": [chain],
    }


def _tls(certificate: str, key: str) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": certificate},
                        "private_key": {"filename": key},
                    }
                ],
            },
        },
    }


def _http(folder: str) -> Json:
    return {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "codec_type": "AUTO",
        "rds": {
            "route_config_name": ROUTES,
            "config_source": from_file(f"{folder}/{ROUTES_FILE}"),
        },
        # An answer takes as long as it takes, and a model may think for minutes between tokens.
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        "request_headers_timeout": "15s",
        "drain_timeout": "5s",
        "normalize_path": True,  # or /service/v1/../metrics would reach what is not meant for it
        "merge_slashes": True,
        # Every client is a stranger: x-envoy-* headers of requests would change time limits.
        "use_remote_address": True,
        "skip_xff_append": True,  # a replica need not learn who asks
        "internal_address_config": {
            "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]
        },
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "local_reply_config": _local_replies(),
        "access_log": [_cut_log()],
        "http_filters": [_alive(), _model_of_body(), _router()],
    }


def _local_replies() -> Json:
    """What the gateway says by itself, in OpenAI's shape; a 503 says when to come back."""
    unavailable = _reply(503, _UNAVAILABLE)
    unavailable["headers_to_add"] = [header("retry-after", str(RETRY_AFTER_S))]
    return {"mappers": [unavailable, _reply(413, _TOO_LONG)]}


def _reply(status: int, body: str) -> Json:
    return {
        "filter": {"status_code_filter": _compared("EQ", status)},
        "body": {"inline_string": body},
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _compared(operator: str, status: int) -> Json:
    return {
        "comparison": {
            "op": operator,
            "value": {"default_value": status, "runtime_key": "arbiter.unset"},
        }
    }


def header(name: str, value: str) -> Json:
    """A header that replaces whatever stands under its name."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


# --- the one thing that Envoy does not count --------------------------------------------------


def _cut_log() -> Json:
    """One line, the service's name, for an answer that had begun when its replica was lost.

    Had it not begun, it would have been repeated, or answered with a 503.
    """
    lost = {"response_flag_filter": {"flags": ["UR", "UC", "UPE"]}}
    begun = {"status_code_filter": _compared("LE", 499)}
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"and_filter": {"filters": [lost, begun]}},
        "typed_config": {
            "@type": f"{_EXTENSIONS}.access_loggers.file.v3.FileAccessLog",
            "path": CUT_LOG,
            "log_format": {"text_format_source": {"inline_string": "%ROUTE_NAME%\n"}},
        },
    }


# --- filters ----------------------------------------------------------------------------------


def _alive() -> Json:
    """GET /health says that the gateway itself is there, for a load balancer in front of it."""
    return {
        "name": "envoy.filters.http.health_check",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": "/health"}}],
        },
    }


MODEL_FILTER = "envoy.filters.http.json_to_metadata"
METADATA = "arbiter"


def _model_of_body() -> Json:
    """Reads "model" of a JSON body; only on routes that switch it on, for it holds the body."""
    found = {"metadata_namespace": METADATA, "key": "model", "type": "STRING"}
    none = found | {"value": ""}
    return {
        "name": MODEL_FILTER,
        "disabled": True,
        "typed_config": {
            "@type": f"{_EXTENSIONS}.filters.http.json_to_metadata.v3.JsonToMetadata",
            "request_rules": {
                "allow_content_types": ["application/json"],
                "rules": [
                    {
                        "selectors": [{"key": "model"}],
                        "on_present": found,
                        "on_missing": none,
                        "on_error": none,
                    }
                ],
            },
        },
    }


def _router() -> Json:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    }
