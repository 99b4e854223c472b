"""The gateway that the settings describe."""

from __future__ import annotations

import os
from collections.abc import Mapping

from arbiter.errors import GatewayError
from arbiter.gateway.base import Backend, BackendState
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.gateway.keys import client_keys
from arbiter.settings import Settings

FALLBACK = "fallback"
"""The name of the external API among a service's backends."""


def make_gateway(settings: Settings) -> EnvoyGateway:
    """The gateway, not started. Its clients' keys are read anew at every start()."""
    gateway = settings.gateway
    tls = None
    if gateway.tls_cert_file is not None and gateway.tls_key_file is not None:
        tls = (gateway.tls_cert_file, gateway.tls_key_file)
    return EnvoyGateway(
        settings.gateway_dir,
        lambda: client_keys(settings),
        host=gateway.host,
        port=gateway.port,
        tls=tls,
        url=gateway.url,
        workers=gateway.workers,
        drain_s=gateway.drain_s,
    )


def fallback(settings: Settings, environ: Mapping[str, str] | None = None) -> Backend | None:
    """The external API as a backend on standby; None where none is set.

    Whether a service's policy allows it is for the caller to decide, before it is served.

    Raises:
        GatewayError: the variable of its key is not set.
    """
    gateway = settings.gateway
    if gateway.fallback_url is None:
        return None
    key = None
    if gateway.fallback_key_env is not None:
        key = (os.environ if environ is None else environ).get(gateway.fallback_key_env)
        if not key:
            raise GatewayError(
                "the key of gateway.fallback_url is not set",
                f"export {gateway.fallback_key_env}=...",
            )
    return Backend(FALLBACK, gateway.fallback_url, key, None, BackendState.STANDBY)
