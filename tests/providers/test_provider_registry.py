"""The registry: what it knows, what it says to a slip, and that it stays in step with the files."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from loopback import RECORDINGS

import arbiter_providers
from arbiter import registry
from arbiter.errors import SettingsError, UnknownName
from arbiter.provider import Provider, ProviderSettings

FILES = Path(arbiter_providers.__file__).parent


def provider_files() -> set[str]:
    """Modules that are a provider: not shared (leading underscore), and not a part of one."""
    stems = {file.stem for file in FILES.glob("*.py") if not file.name.startswith("_")}
    return {
        stem
        for stem in stems
        if not any(stem != other and stem.startswith(f"{other}_") for other in stems)
    }


def test_registry_files_and_recordings_agree() -> None:
    modules = {target.split(":")[0].split(".")[1] for target in registry.BUILT_IN.values()}
    folders = {folder.name for folder in RECORDINGS.iterdir() if folder.is_dir()}
    assert modules == provider_files()
    assert set(registry.BUILT_IN) == folders


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN))
def test_every_provider_loads_under_its_own_name(name: str) -> None:
    provider = registry.load(name, ProviderSettings())
    assert provider.name == name
    assert isinstance(provider, Provider)


def test_importing_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = {'__future__', *sys.modules}; import arbiter.registry; "
        "print([m for m in set(sys.modules) - before if not m.startswith('arbiter')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_slip_is_met_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean azure"):
        registry.load("azur", ProviderSettings())


def test_a_name_like_no_other_is_met_with_all_names() -> None:
    with pytest.raises(UnknownName, match="known are aws, azure"):
        registry.load("zzz", ProviderSettings())


def announce(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    points = EntryPoints([EntryPoint(name, value, registry.ENTRY_POINTS)])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))


def test_another_package_can_announce_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, "mycloud", "arbiter_providers.azure:Azure")
    assert "mycloud" in registry.names()
    assert isinstance(registry.load("mycloud", ProviderSettings()), Provider)


def test_another_package_cannot_take_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, "aws", "arbiter_providers.azure:Azure")
    assert registry.load("aws", ProviderSettings()).name == "aws"


@pytest.mark.parametrize("target", ["no.such.module:Thing", "arbiter_providers.azure:NoSuch"])
def test_a_broken_announcement_says_so(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    announce(monkeypatch, "mycloud", target)
    with pytest.raises(SettingsError, match="mycloud cannot be loaded"):
        registry.load("mycloud", ProviderSettings())
