"""Registries of plug-ins: built-in ones, and those that other packages register by entry points."""

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from splitfl.core.errors import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")


def registered(group: str) -> list[str]:
    """The names of plug-ins of this group that other packages register, without loading them."""
    return sorted({point.name for point in entry_points(group=group)})


class Registry(Mapping[str, T], Generic[T]):
    """Plug-ins of one kind by name: `own`, then those of the entry-point group, loaded at first use.

    A plug-in of another package that cannot be loaded, has another type or a name in use is excluded with
    a warning; looking it up raises ConfigError with the reason. The others work.
    """

    def __init__(self, group: str, kind: type[T], own: Mapping[str, T]) -> None:
        self.group = group
        self._kind = kind
        self._own = dict(own)

    def __getitem__(self, name: str) -> T:
        """Raises ConfigError for an excluded plug-in, KeyError for an unknown name."""
        if name in self._own:
            return self._own[name]
        plugins, refused = self._plugins
        if name in refused:
            raise ConfigError(refused[name])
        return plugins[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._plugins[0]

    def __len__(self) -> int:
        return len(self._own) + len(self._plugins[0])

    def __contains__(self, name: object) -> bool:
        return name in self._own or any(
            name in found for found in self._plugins
        )  # a plug-in may look up built-in ones

    @property
    def refused(self) -> Mapping[str, str]:
        """The reason for each excluded plug-in, by name."""
        return self._plugins[1]

    @cached_property
    def _plugins(self) -> tuple[dict[str, T], dict[str, str]]:
        found: dict[str, T] = {}
        refused: dict[str, str] = {}
        for point in entry_points(group=self.group):
            try:
                plugin = self._loaded(point, found)
            except ConfigError as error:
                log.warning("%s", error)
                if point.name not in self._own and point.name not in found:
                    refused[point.name] = str(error)
            else:
                found[point.name] = plugin
        return found, refused

    def _loaded(self, point: EntryPoint, found: Mapping[str, T]) -> T:
        package = point.dist.name if point.dist is not None else point.value
        label = f"the plug-in {point.name!r} of {package} ({self.group})"
        if point.name in self._own or point.name in found:
            raise ConfigError(f"{label} has a name that is already in use")
        try:
            plugin = point.load()
        except Exception as error:  # any error of another package
            raise ConfigError(f"{label} cannot be loaded: {type(error).__name__}: {error}") from error
        if not isinstance(plugin, self._kind):
            name = type(plugin).__name__
            raise ConfigError(f"{label} must be a {self._kind.__name__}, got an object of type {name}")
        return plugin
