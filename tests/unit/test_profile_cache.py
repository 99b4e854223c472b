"""A cached profile is the profile of the file, or it is not used."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbiter import profile_cache, profiles
from arbiter.errors import ProfileError
from arbiter.profile_cache import read_cached
from arbiter.profiles import find_profile, read_profile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A user's own copy of a profile."""
    own = tmp_path / "llama8b.yaml"
    own.write_bytes(find_profile("llama8b").read_bytes())
    return own


def test_every_shipped_profile_comes_back_equal(tmp_path: Path) -> None:
    for name in profiles.profile_names():
        file = find_profile(name)
        for _ in ("written", "read"):
            assert read_cached(file, tmp_path / "cache") == read_profile(file)
        assert (tmp_path / "cache" / f"{name}.json").is_file()


def test_the_second_time_no_yaml_is_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_cached(path, tmp_path)

    def unwanted(_path: Path) -> None:
        raise AssertionError("the YAML was read again")

    monkeypatch.setattr(profile_cache, "read_profile", unwanted)
    assert read_cached(path, tmp_path) == first


def test_a_changed_file_is_read_anew(path: Path, tmp_path: Path) -> None:
    read_cached(path, tmp_path)
    changed = path.read_text().replace("description:", "description: Changed,", 1)
    path.write_text(changed)
    assert read_cached(path, tmp_path) == read_profile(path)
    assert read_cached(path, tmp_path).description.startswith("Changed,")


def test_a_file_that_has_become_wrong_is_an_error(path: Path, tmp_path: Path) -> None:
    read_cached(path, tmp_path)
    path.write_text(path.read_text() + "\nno_such_key: 1\n")
    with pytest.raises(ProfileError, match="no_such_key"):
        read_cached(path, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b'{"version":"0","text":"","document":1}']
)
def test_a_damaged_cache_does_no_harm(path: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "llama8b.json").write_bytes(content)
    assert read_cached(path, tmp_path) == read_profile(path)


def test_another_version_reads_anew(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "llama8b.json"
    read_cached(path, tmp_path)
    cache.write_bytes(cache.read_bytes().replace(b"sequences", b"sentences"))
    monkeypatch.setattr(profile_cache, "__version__", "999")
    assert read_cached(path, tmp_path) == read_profile(path)


def test_a_cache_that_cannot_be_written_is_done_without(path: Path, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    assert read_cached(path, tmp_path / "blocked") == read_profile(path)
