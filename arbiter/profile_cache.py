"""The profiles last used, as JSON: reading YAML would take a tenth of a quick command's time.

A cached profile is the document that its file held when it was read and found sound. It is used
only for the very same bytes, by the same version of arbiter; anything else is read anew.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from arbiter import __version__
from arbiter.errors import ProfileError
from arbiter.profiles import Profile, read_profile
from arbiter.typed import convert, decode


@dataclass(frozen=True, slots=True)
class _Cached:
    version: str
    text: str
    document: dict[str, Any]


def read_cached(path: Path, folder: Path) -> Profile:
    """The profile in a file, as `read_profile` gives it.

    Args:
        folder: where the cache is kept; nothing is lost with it, and it need not be writable.

    Raises:
        ProfileError: as of `read_profile`.
    """
    cache = folder / f"{path.stem}.json"
    try:
        text = path.read_text(encoding="utf-8")
        cached = decode(cache.read_bytes(), _Cached)
        if (cached.version, cached.text) == (__version__, text):
            return convert(cached.document, Profile)
    except (OSError, ValueError):  # none yet, or not ours: both msgspec's errors are ValueErrors
        pass
    return _read(path, cache)


def _read(path: Path, cache: Path) -> Profile:
    from arbiter import strict_yaml

    profile = read_profile(path)
    with contextlib.suppress(OSError, ValueError, ProfileError, strict_yaml.Unreadable):
        text = path.read_text(encoding="utf-8")
        document = strict_yaml.read(path).data
        if convert(document, Profile) == profile:  # the file may change as we read it
            _write(cache, msgspec.json.encode(_Cached(__version__, text, document)))
    return profile


def _write(cache: Path, content: bytes) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        fresh.replace(cache)
    finally:
        fresh.unlink(missing_ok=True)
