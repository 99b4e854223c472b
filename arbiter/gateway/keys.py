"""Who may ask the gateway: the keys that clients show. There is no way to have none."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from arbiter.credentials import api_key
from arbiter.errors import GatewayError
from arbiter.settings import Settings

_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{8,512}")
"""What a bearer token may consist of (RFC 6750), and not so short that it is guessed."""


def client_keys(settings: Settings, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Every key that lets a client in, each once, read anew at each call.

    They come from the variables that `gateway.client_key_envs` names and from the lines of
    `gateway.client_keys_file`; several in one place, so that an old one stays good while clients
    change to the new one. Where neither is set it is the key of `arbiter.credentials`.

    Raises:
        GatewayError: one is missing or malformed. The message never repeats it.
    """
    variables = os.environ if environ is None else environ
    gateway = settings.gateway
    found: list[str] = []
    for name in gateway.client_key_envs:
        found += _checked(variables.get(name, "").split(","), f"the variable {name}")
    if gateway.client_keys_file is not None:
        found += _checked(_lines(settings), str(gateway.client_keys_file))
    if not gateway.client_key_envs and gateway.client_keys_file is None:
        found += _checked([api_key(settings, environ)], "the API key")
    return tuple(dict.fromkeys(found))


def _lines(settings: Settings) -> list[str]:
    """The lines of the keys' file that are not comments."""
    path = settings.gateway.client_keys_file
    assert path is not None
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise GatewayError(f"the clients' keys in {path} cannot be read: {reason}") from None
    if mode & 0o007:
        raise GatewayError(f"everybody can read the clients' keys in {path}", f"chmod 600 {path}")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def _checked(texts: list[str], where: str) -> list[str]:
    keys = [text.strip() for text in texts if text.strip()]
    if not keys:
        raise GatewayError(f"{where} holds no client key", "put one there: openssl rand -hex 32")
    for key in keys:
        if not _KEY.fullmatch(key):
            raise GatewayError(
                f"a client key in {where} is malformed",
                "a key has 8 to 512 letters, digits or . _ ~ + / = -: openssl rand -hex 32",
            )
    return keys
