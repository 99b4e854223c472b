"""The key that clients and arbiter itself show to the servers it starts."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from arbiter.errors import ArbiterError
from arbiter.settings import Settings

VARIABLE = "ARBITER_API_KEY"


def api_key(settings: Settings, environ: Mapping[str, str] | None = None) -> str:
    """$ARBITER_API_KEY, or the key in <data_dir>/api-key, which is made at its first use.

    Raises:
        ArbiterError: the file cannot be made or read, or holds no key.
    """
    given = (os.environ if environ is None else environ).get(VARIABLE)
    if given:
        return given
    path = key_file(settings)
    try:
        if not path.exists():
            _make(path)
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise ArbiterError(
            f"the API key cannot be kept in {path}: {reason}", f"export {VARIABLE}=..."
        ) from None
    if not key:
        raise ArbiterError(f"the API key in {path} is empty", "remove the file")
    return key


def key_file(settings: Settings) -> Path:
    """Where the key is kept when the environment does not give one."""
    return settings.data_dir / "api-key"


def _make(path: Path) -> None:
    """Write the key whole or not at all, for this user alone; of two writers the first one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
