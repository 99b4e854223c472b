"""The key that clients and arbiter itself show to the servers it starts."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from arbiter.errors import ArbiterError
from arbiter.settings import Settings


def api_key(settings: Settings) -> str:
    """$ARBITER_API_KEY, or the key in <data_dir>/api-key, which is made at its first use.

    Raises:
        ArbiterError: the file cannot be made or read.
    """
    given = os.environ.get("ARBITER_API_KEY")
    if given:
        return given
    path = key_file(settings)
    try:
        if not path.exists():
            _make(path)
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ArbiterError(
            f"the API key cannot be kept in {path}: {error.strerror}", "export ARBITER_API_KEY=..."
        ) from None


def key_file(settings: Settings) -> Path:
    """Where the key is kept when the environment does not give one."""
    return settings.data_dir / "api-key"


def _make(path: Path) -> None:
    """Write the key whole or not at all; whoever comes second keeps the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
