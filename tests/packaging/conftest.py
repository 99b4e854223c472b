"""The wheel, built once from a clean copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from builds import copy_files, hatchling
from checkout import project_files


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the project's files."""
    return copy_files(project_files(), tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the clean copy."""
    return hatchling(tree, "wheel", tmp_path_factory.mktemp("wheel"))
