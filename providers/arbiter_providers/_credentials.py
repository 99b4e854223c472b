"""Credentials by the name of the environment variable that holds them.

Settings carry such names, never the secrets; a secret goes into a request and nowhere else.
"""

from __future__ import annotations

import os

from arbiter.errors import MissingCredentials


def credential(provider: str, variable: str) -> str:
    """What the variable holds, without the white space around it.

    Raises:
        MissingCredentials: it is not set, is empty, or could not be sent as it is.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise MissingCredentials(f"{provider}: {variable} is not set", f"export {variable}=...")
    if not value.isascii() or not value.isprintable():
        raise MissingCredentials(
            f"{provider}: {variable} holds characters that no key has", f"export {variable}=..."
        )
    return value


def credentials(provider: str, *variables: str) -> tuple[str, ...] | None:
    """What the variables hold, or None where one of them is not set.

    Raises:
        MissingCredentials: one could not be sent as it is.
    """
    if not all(os.environ.get(variable, "").strip() for variable in variables):
        return None
    return tuple(credential(provider, variable) for variable in variables)
