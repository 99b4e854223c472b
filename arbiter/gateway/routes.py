"""Envoy's routes, as plain data: who may ask for what, and where it goes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from arbiter.gateway.addresses import Services
from arbiter.gateway.base import Backend
from arbiter.gateway.boot import METADATA, MODEL_FILTER, ROUTES, Json, header
from arbiter.gateway.clusters import either, helper
from arbiter.gateway.waiting import SINCE

_TYPE = "type.googleapis.com/envoy"


def routes(services: Services, keys: Sequence[str]) -> Json:
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
                # A client's key and address go no further.
                "request_headers_to_remove": ["authorization", "x-envoy-external-address"],
                "routes": routes,
            }
        ],
    }


def _to(service: str, backends: Sequence[Backend], match: Json) -> Json:
    has_help = helper(service, backends) is not None
    route: Json = {
        "name": service,
        "stat_prefix": service,
        "match": match,
        "route": {
            "cluster": either(service) if has_help else service,
            "prefix_rewrite": "/v1",
            "timeout": "0s",
            "auto_host_rewrite": has_help,
        },
    }
    if any(one.holds for one in backends):
        route["request_headers_to_add"] = [header(SINCE, "%START_TIME(%s.%3f)%")]
    return route


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
    # Draws until one was not tried yet: with two replicas, three of four draws fall on the refuser.
    "host_selection_retry_max_attempts": 40,
}
