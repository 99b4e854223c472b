"""The [gateway] table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from arbiter.errors import GatewayError, SettingsError
from arbiter.gateway.base import Backend, BackendState
from arbiter.gateway.configured import fallback, make_gateway
from arbiter.settings import GatewaySettings, Settings, load_settings

HOME = {"HOME": "/nonexistent"}


def read(folder: Path, text: str, **variables: str) -> str:
    """What is wrong with it, or nothing."""
    file = folder / "arbiter.toml"
    file.write_text(f"[gateway]\n{text}\n")
    try:
        load_settings(file, HOME | variables)
    except SettingsError as error:
        return error.message.removeprefix(f"{file}:2: ")
    return ""


def test_the_gateway_is_made_of_the_settings(tmp_path: Path) -> None:
    gateway = GatewaySettings(
        port=9, url="https://llm.example/", fallback_url="https://api.example"
    )
    settings = Settings(data_dir=tmp_path, gateway=gateway)
    assert make_gateway(settings).endpoint("svc") == "https://llm.example/svc/v1"
    assert fallback(settings) == Backend(
        "fallback", "https://api.example", None, None, BackendState.STANDBY
    )
    assert fallback(Settings()) is None
    keyed = replace(settings, gateway=replace(gateway, fallback_key_env="API_KEY"))
    found = fallback(keyed, {"API_KEY": "k"})
    assert found is not None
    assert found.key == "k"
    with pytest.raises(GatewayError, match="export API_KEY="):
        fallback(keyed, {})


def test_paths_are_meant_from_the_file_that_names_them(tmp_path: Path) -> None:
    file = tmp_path / "arbiter.toml"
    file.write_text('data_dir = "d"\n[gateway]\nclient_keys_file = "keys"\n')
    found = load_settings(file, HOME)
    assert found.gateway.client_keys_file == tmp_path / "keys"
    assert found.gateway_dir == tmp_path / "d" / "gateway"
    typed = load_settings(file, HOME | {"ARBITER_GATEWAY__STATE_DIR": "here"})
    assert typed.gateway_dir == Path.cwd() / "here"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = 0", "gateway.port: must be from 1 to 65535"),
        ("workers = 0", "gateway.workers: must be from 1 to 64"),
        ("drain_s = 0", "gateway.drain_s: must be above 0 seconds and at most ten years"),
        (
            'host = "localhost"',
            "gateway.host: must be an IP address, as 127.0.0.1 or 0.0.0.0",
        ),
        ('url = "llm.example"', "gateway.url: must be an http or https URL"),
        (
            'fallback_url = "https://me:secret@h/v1"',
            "gateway.fallback_url: must not hold a user or a password",
        ),
        (
            'client_key_envs = ["sk-a-key-itself"]',
            "gateway.client_key_envs: must be the name of a variable, not a key",
        ),
        (
            'fallback_key_env = "sk-a-key-itself"',
            "gateway.fallback_key_env: must be the name of a variable, not a key",
        ),
        ("prot = 1", "gateway.prot: is not known, did you mean port?"),
        ('tls_key_file = "k"', "gateway.tls_key_file: needs tls_cert_file too"),
        ('host = "::1"', ""),
        ('client_key_envs = ["TEAM_KEYS"]', ""),
    ],
)
def test_what_is_wrong_is_told_without_repeating_a_key(
    tmp_path: Path, text: str, told: str
) -> None:
    assert read(tmp_path, text) == told


def test_a_relative_path_in_a_table_of_the_wrong_kind_is_a_problem_and_no_crash(
    tmp_path: Path,
) -> None:
    assert "gateway.client_keys_file" in read(tmp_path, "client_keys_file = 3")
