"""The API key: from the environment, or made once and kept for this user alone."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arbiter.credentials import api_key, key_file
from arbiter.errors import ArbiterError
from arbiter.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "not" / "yet")


def test_the_environment_wins_and_nothing_is_written(settings: Settings) -> None:
    assert api_key(settings, {"ARBITER_API_KEY": "given"}) == "given"
    assert not settings.data_dir.exists()


@pytest.mark.parametrize("environ", [{}, {"ARBITER_API_KEY": ""}])
def test_a_key_is_made_once_and_kept(settings: Settings, environ: dict[str, str]) -> None:
    key = api_key(settings, environ)
    assert len(key) >= 40
    assert api_key(settings, environ) == key
    assert [path.name for path in settings.data_dir.iterdir()] == ["api-key"], "a draft was left"


def test_nobody_else_may_read_it(settings: Settings) -> None:
    api_key(settings, {})
    assert stat.S_IMODE(key_file(settings).stat().st_mode) == 0o600


def test_each_installation_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys = {api_key(Settings(data_dir=tmp_path / name), {}) for name in ("a", "b")}
    assert len(keys) == 2


def test_all_who_ask_at_once_get_the_same(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: api_key(settings, {}), range(32)))
    assert len(keys) == 1


def test_a_key_that_cannot_be_kept_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArbiterError, match="export ARBITER_API_KEY"):
        api_key(Settings(data_dir=tmp_path / "file"), {})


@pytest.mark.parametrize(("content", "told"), [(b"\n", "is empty"), (b"\xff", "is not text")])
def test_a_spoilt_file_is_no_key(settings: Settings, content: bytes, told: str) -> None:
    settings.data_dir.mkdir(parents=True)
    key_file(settings).write_bytes(content)
    with pytest.raises(ArbiterError, match=told):
        api_key(settings, {})
