"""Clients' keys: where they come from, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbiter.errors import GatewayError
from arbiter.gateway.keys import client_keys
from arbiter.settings import GatewaySettings, Settings


def settings(folder: Path, **gateway: object) -> Settings:
    return Settings(data_dir=folder, gateway=GatewaySettings(**gateway))  # type: ignore[arg-type]


def keys_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_with_nothing_set_it_is_arbiters_own_key(tmp_path: Path) -> None:
    assert client_keys(settings(tmp_path), {"ARBITER_API_KEY": "the-api-key"}) == ("the-api-key",)
    (made,) = client_keys(settings(tmp_path), {})
    assert made == (tmp_path / "api-key").read_text().strip()


def test_variables_and_file_together_each_once(tmp_path: Path) -> None:
    path = keys_file(tmp_path, "# team red\nkey-of-red\n\nkey-of-both\n")
    found = client_keys(
        settings(tmp_path, client_key_envs=("ONE", "TWO"), client_keys_file=path),
        {"ONE": "key-of-one, key-of-both", "TWO": "key-of-two", "ARBITER_API_KEY": "not-this-one"},
    )
    assert found == ("key-of-one", "key-of-both", "key-of-two", "key-of-red")


def test_the_file_is_read_anew(tmp_path: Path) -> None:
    path = keys_file(tmp_path, "first-key\n")
    chosen = settings(tmp_path, client_keys_file=path)
    assert client_keys(chosen, {}) == ("first-key",)
    keys_file(tmp_path, "first-key\nsecond-key\n")
    assert client_keys(chosen, {}) == ("first-key", "second-key")


@pytest.mark.parametrize("text", ["short", "has a space in it", 'quote"quote"quote', "ключключ"])
def test_a_malformed_key_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    chosen = settings(tmp_path, client_key_envs=("ONE",))
    with pytest.raises(GatewayError, match="a client key in the variable ONE is malformed") as told:
        client_keys(chosen, {"ONE": text})
    assert text not in str(told.value)


def test_no_key_is_never_an_open_door(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="the variable ONE holds no client key"):
        client_keys(settings(tmp_path, client_key_envs=("ONE",)), {"ONE": " , "})
    path = keys_file(tmp_path, "# nobody yet\n")
    with pytest.raises(GatewayError, match="holds no client key"):
        client_keys(settings(tmp_path, client_keys_file=path), {})


def test_a_file_that_cannot_be_used_is_told_with_its_path(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(GatewayError, match=f"{missing} cannot be read: No such file"):
        client_keys(settings(tmp_path, client_keys_file=missing), {})
    path = keys_file(tmp_path, "a-good-key\n", mode=0o644)
    with pytest.raises(GatewayError, match=f"chmod 600 {path}"):
        client_keys(settings(tmp_path, client_keys_file=path), {})
