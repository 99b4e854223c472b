"""What the instance types are that a file of prices names without their GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from arbiter import registry
from arbiter.errors import ArbiterError
from arbiter.provider import MachineProvider, Provider, ProviderSettings

Machine = tuple[str, int]
"""GPU and number of GPUs."""


class Machines:
    """GPU and count of instance types: what is recorded, else what the provider's own table says.

    Args:
        recorded: (provider, instance type) -> machine, of what is stored.
        settings_of: a provider's settings by its name.
    """

    def __init__(
        self,
        recorded: Mapping[tuple[str, str], Machine],
        settings_of: Callable[[str], ProviderSettings],
    ) -> None:
        self._recorded, self._settings_of = recorded, settings_of
        self._providers: dict[str, Provider | None] = {}

    def of(self, provider: str, instance_type: str) -> Machine | None:
        """The machine, or None where nobody says what it is."""
        recorded = self._recorded.get((provider, instance_type))
        if recorded is not None:
            return recorded
        if provider not in self._providers:
            self._providers[provider] = self._loaded(provider)
        told = self._providers[provider]
        return told.machine(instance_type) if isinstance(told, MachineProvider) else None

    def _loaded(self, name: str) -> Provider | None:
        """None for a provider of the file's own."""
        try:
            return registry.load(name, self._settings_of(name))
        except ArbiterError:
            return None
