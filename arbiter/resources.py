"""Where the files that are not code live: templates, migrations, data.

In a checkout they are folders beside the package; in an installed wheel they are inside it, under
`_data`. A checkout wins over `_data` in it, which could only be the left-over of a build.
"""

from __future__ import annotations

from pathlib import Path

from arbiter.errors import ArbiterError

_PACKAGE = Path(__file__).resolve().parent


def resource_dir(name: str, package: Path = _PACKAGE) -> Path:
    """The folder of one kind of resource ("templates", "migrations", "data").

    Args:
        name: the folder's name, without a path.
        package: the folder of the arbiter package, for tests.

    Raises:
        ArbiterError: neither place has it; the message names both.
    """
    checkout = package.parent
    beside = checkout / name
    inside = package / "_data" / name
    if (checkout / "pyproject.toml").is_file() and beside.is_dir():
        return beside
    if inside.is_dir():
        return inside
    raise ArbiterError(
        f"the folder {name!r} of arbiter is missing: neither {inside} nor {beside} exists",
        "install arbiter again (pip install --force-reinstall), or run it from a complete checkout",
    )
