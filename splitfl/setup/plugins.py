"""The tables of an experiment that choose a plug-in, with the plug-ins' registries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from splitfl.config import LinkConfig, key_types, one_of


@dataclass(frozen=True, kw_only=True)
class Plugins:
    """The plug-ins that the `key` of a table chooses one or several of; registries are imported on demand."""

    noun: str
    key: str
    registry: Callable[[], Mapping[str, Any]]
    refuse: Callable[[str, str, Mapping[str, Any]], object] = one_of

    def settings(self, name: str, setting: str) -> type:
        """The type of this plug-in's settings; raises ConfigError for an unknown name."""
        registry = self.registry()
        if name not in registry:
            self.refuse(setting, name, registry)
        kind: type = registry[name].settings
        return kind

    @staticmethod
    def names(value: object) -> list[str]:
        """The plug-ins that a value of `key` names; none for one of another type."""
        several = value if isinstance(value, list | tuple) else [value]
        return [one for one in several if one and isinstance(one, str)]

    def having(self, key: str) -> list[str]:
        """The names of plug-ins with this key."""
        return [name for name, spec in self.registry().items() if key in key_types(spec.settings)]


def _methods() -> Mapping[str, Any]:
    from splitfl.methods.registry import METHODS  # imports torch

    return METHODS


def _adapters() -> Mapping[str, Any]:
    from splitfl.adapters.registry import ADAPTERS  # imports torch

    return ADAPTERS


def _refuse_adapter(setting: str, name: str, registry: Mapping[str, Any]) -> None:
    from splitfl.adapters.registry import refuse_kind

    refuse_kind(setting, name, registry)


def _transports() -> Mapping[str, Any]:
    from splitfl.transport.registry import TRANSPORTS

    return TRANSPORTS


def _trackers() -> Mapping[str, Any]:
    from splitfl.tracking.registry import TRACKERS

    return TRACKERS


def _attacks() -> Mapping[str, Any]:
    from splitfl.privacy.registry import ATTACKS  # imports torch

    return ATTACKS


def _links() -> Mapping[str, Any]:
    from splitfl.setup.link_kinds import LINKS

    return LINKS


PLUGINS: Final[Mapping[str, Plugins]] = {
    "method": Plugins(noun="method", key="name", registry=_methods),
    **{
        f"adapter.{side}": Plugins(
            noun="adapter kind", key="kind", registry=_adapters, refuse=_refuse_adapter
        )
        for side in ("head", "body")
    },
    "link": Plugins(
        noun="kind of link",
        key="kind",
        registry=_links,
        refuse=lambda setting, name, registry: LinkConfig(kind=name),
    ),
    "transport": Plugins(noun="transport", key="name", registry=_transports),
    "tracking": Plugins(noun="tracker", key="to", registry=_trackers),
    "privacy": Plugins(noun="attack", key="probes", registry=_attacks),
}
"""Plug-ins by the path of their table."""
