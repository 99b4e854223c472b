"""Where a backend is, from its URL. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from arbiter.errors import GatewayError
from arbiter.gateway.base import Backend

Services = Mapping[str, Sequence[Backend]]
Addresses = Mapping[str, str]
"""Host name -> IP address. A host that is an address itself need not be in it."""


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


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
