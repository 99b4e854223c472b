"""Templates, migrations and data are found in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbiter.errors import ArbiterError
from arbiter.resources import resource_dir


def folder(*parts: Path | str) -> Path:
    path = Path(*parts)
    path.mkdir(parents=True)
    return path


def test_a_wheel_has_them_inside_the_package(tmp_path: Path) -> None:
    package = folder(tmp_path, "site-packages", "arbiter")
    inside = folder(package, "_data", "templates")
    assert resource_dir("templates", package) == inside


def test_a_foreign_folder_beside_an_installed_package_is_not_taken(tmp_path: Path) -> None:
    package = folder(tmp_path, "site-packages", "arbiter")
    inside = folder(package, "_data", "templates")
    folder(tmp_path, "site-packages", "templates")
    assert resource_dir("templates", package) == inside


def test_a_checkout_wins_over_the_stale_copy_of_a_build(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    package = folder(tmp_path, "arbiter")
    folder(package, "_data", "data")
    beside = folder(tmp_path, "data")
    assert resource_dir("data", package) == beside


def test_a_missing_folder_names_both_places(tmp_path: Path) -> None:
    package = folder(tmp_path, "arbiter")
    with pytest.raises(ArbiterError) as caught:
        resource_dir("migrations", package)
    assert str(package / "_data" / "migrations") in str(caught.value)
    assert str(tmp_path / "migrations") in str(caught.value)


@pytest.mark.parametrize("name", ["templates", "migrations", "data"])
def test_this_arbiter_has_its_own(name: str) -> None:
    assert resource_dir(name).is_dir()
