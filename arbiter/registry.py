"""Which providers exist. Importing this costs nothing: a provider is imported when it is loaded.

The project's own providers are the lines below. Anybody else's are found by the entry point
group `arbiter.providers`, whose value is the same "module:Class":

    [project.entry-points."arbiter.providers"]
    mycloud = "my_package.mycloud:MyCloud"
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would cost more than all of this file
if TYPE_CHECKING:
    from typing import Any

    from arbiter.inventory import Inventory
    from arbiter.provider import Provider, ProviderSettings

ENTRY_POINTS = "arbiter.providers"

BUILT_IN: dict[str, str] = {
    "aws": "arbiter_providers.aws:Aws",
    "azure": "arbiter_providers.azure:Azure",
    "gcp": "arbiter_providers.gcp:Gcp",
    "lambda": "arbiter_providers.lambda_cloud:Lambda",
    "nebius": "arbiter_providers.nebius:Nebius",
    "ovh": "arbiter_providers.ovh:Ovh",
    "runpod": "arbiter_providers.runpod:RunPod",
    "scaleway": "arbiter_providers.scaleway:Scaleway",
    "seeweb": "arbiter_providers.seeweb:Seeweb",
    "vast": "arbiter_providers.vast:Vast",
    "verda": "arbiter_providers.verda:Verda",
}

INVENTORIES: dict[str, str] = {
    "aws": "arbiter_providers.aws_inventory:AwsInventory",
    "azure": "arbiter_providers.azure_inventory:AzureInventory",
    "gcp": "arbiter_providers.gcp_inventory:GcpInventory",
    "lambda": "arbiter_providers.lambda_cloud_inventory:LambdaInventory",
    "runpod": "arbiter_providers.runpod_inventory:RunPodInventory",
    "verda": "arbiter_providers.verda_inventory:VerdaInventory",
}
"""Who lists a provider's machines that run for us, where arbiter can ask it."""


def names() -> tuple[str, ...]:
    """Every provider's name, sorted: the project's own and those of installed packages."""
    return tuple(sorted(_outsiders() | BUILT_IN))


def load(name: str, settings: ProviderSettings) -> Provider:
    """The provider of that name, made with these settings. Cheap: no I/O, no SDK.

    Raises:
        UnknownName: no provider answers to the name; the hint names the nearest.
        SettingsError: an installed package announces the provider but cannot deliver it.
    """
    target = BUILT_IN.get(name)
    if target is None:
        target = _outsiders().get(name)
    if target is None:
        raise _unknown(name)
    return _construct(name, target, settings)


def load_inventory(name: str, settings: ProviderSettings) -> Inventory | None:
    """Who lists a provider's machines; None where nobody does. Cheap: no I/O, no SDK."""
    target = INVENTORIES.get(name)
    if target is None:
        return None
    found: Inventory = _constructor(name, target)(settings)
    return found


def _construct(name: str, target: str, settings: ProviderSettings) -> Provider:
    provider: Provider = _constructor(name, target)(settings)
    return provider


def _constructor(name: str, target: str) -> Any:
    from importlib import import_module

    module, _, class_name = target.partition(":")
    try:
        return getattr(import_module(module), class_name)
    except (ImportError, AttributeError) as error:
        from arbiter.errors import SettingsError

        raise SettingsError(
            f"provider {name} cannot be loaded from {target}: {error}",
            "reinstall or remove the package that announces it",
        ) from error


def _outsiders() -> dict[str, str]:
    """Providers of other packages. A built-in name is never taken over."""
    from importlib.metadata import entry_points

    return {
        point.name: point.value
        for point in entry_points(group=ENTRY_POINTS)
        if point.name not in BUILT_IN
    }


def _unknown(name: str) -> Exception:
    from difflib import get_close_matches

    from arbiter.errors import UnknownName

    known = names()
    near = get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return UnknownName(f"no provider is called {name!r}", hint)
