"""Which tables of an experiment choose a plug-in, and where the plug-ins are registered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from splitfl.config import LinkConfig, key_types, one_of


@dataclass(frozen=True, kw_only=True)
class Plugins:
    """The plug-ins between which the `key` of a table chooses; a registry is imported where it is needed."""

    noun: str
    key: str
    registry: Callable[[], Mapping[str, Any]]
    refuse: Callable[[str, str, Mapping[str, Any]], object] = one_of

    def settings(self, name: str, setting: str) -> type:
        """The type of this plug-in's settings; ConfigError with the nearest where `setting` names none."""
        registry = self.registry()
        if name not in registry:
            self.refuse(setting, name, registry)
        kind: type = registry[name].settings
        return kind

    def having(self, key: str) -> list[str]:
        """The plug-ins with this key."""
        return [name for name, spec in self.registry().items() if key in key_types(spec.settings)]


def _methods() -> Mapping[str, Any]:
    from splitfl.methods.registry import METHODS  # takes torch along

    return METHODS


def _adapters() -> Mapping[str, Any]:
    from splitfl.adapters.registry import ADAPTERS  # takes torch along

    return ADAPTERS


def _refuse_adapter(setting: str, name: str, registry: Mapping[str, Any]) -> None:
    from splitfl.adapters.registry import refuse_kind

    refuse_kind(setting, name, registry)


def _transports() -> Mapping[str, Any]:
    from splitfl.transport.registry import TRANSPORTS

    return TRANSPORTS


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
}
"""By the path of their table."""
