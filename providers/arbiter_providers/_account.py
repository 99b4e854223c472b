"""How a cloud is reached that answers only its customers: the address, and the key."""

from __future__ import annotations

import os

from arbiter.errors import BadCredentials, MissingCredentials
from arbiter.provider import ProviderSettings


def base_url(settings: ProviderSettings, public: str, prefix: str) -> str:
    """The address below which the API's paths lie, without a slash at its end.

    Args:
        public: scheme and host of the real API.
        prefix: the version's path ("/api/v1"); an endpoint in the settings may have it already.
    """
    base = (settings.endpoint or public).rstrip("/")
    return base if base.endswith(prefix) else base + prefix


def key_variable(settings: ProviderSettings, variable: str, option: str = "api_key_env") -> str:
    """The name of the environment variable that holds a key: a setting may give another."""
    return str(settings.options.get(option) or variable)


def key(provider: str, variable: str) -> str:
    """The key in an environment variable. It never appears in an error.

    Raises:
        MissingCredentials: the variable is not set, or is empty.
        BadCredentials: it holds what no request can carry (a line break, a letter beyond ASCII).
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        raise MissingCredentials(f"{provider}: {variable} is not set", f"export {variable}=...")
    if not (text.isascii() and text.isprintable()):
        raise BadCredentials(f"{provider}: {variable} does not hold a key", f"check {variable}")
    return text
