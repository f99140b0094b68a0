"""Tables with keys of a plug-in: its settings are a dataclass that it owns.

The keys of a table are the fields of the dataclass. A `group` is a field whose type is a dataclass with
further keys of the same table, for settings that several plug-ins share.
"""

import dataclasses
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from splitfl.core.errors import ConfigError

S = TypeVar("S")
P = TypeVar("P", bound="PluginTable")

_GROUP: Final = "group"
_KEY_TYPES: Final = (bool, int, float, str, tuple[int, ...], tuple[float, ...], tuple[str, ...])


def group(kind: type[S]) -> S:
    """A dataclass field for settings of this type, whose keys belong to the enclosing table."""
    grouped: S = dataclasses.field(default_factory=kind, metadata={_GROUP: True})
    return grouped


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """The settings of a plug-in without keys."""


@dataclass(frozen=True, kw_only=True)
class PluginTable:
    """A table with the keys common to all plug-ins of one kind; `settings` has those of the chosen one.

    `settings` is empty if the table was not read, and has several objects if several plug-ins may be
    chosen later.
    """

    settings: tuple[object, ...] = ()

    def find(self, kind: type[S]) -> S | None:
        """The settings, or the group, of this type; None without any."""
        return next((one for own in self.settings for one in _within(own) if isinstance(one, kind)), None)

    def of(self, kind: type[S]) -> S:
        """As `find`; raises ConfigError without any, if the plug-in's specification names another type."""
        found = self.find(kind)
        if found is None:
            have = ", ".join(type(one).__name__ for own in self.settings for one in _within(own))
            raise ConfigError(
                f"the chosen plug-in must have settings or a group of type {kind.__name__}, "
                f"got {have or 'none'}"
            )
        return found


def key_types(kind: type) -> dict[str, Any]:
    """The type of each key of a table of this type, groups included, without those of a plug-in."""
    hints, keys = typing.get_type_hints(kind), dict[str, Any]()
    for one in _fields(kind):
        keys |= key_types(hints[one.name]) if _is_group(one) else {one.name: hints[one.name]}
    return keys


def key_values(table: Any) -> dict[str, Any]:
    """The value of each key of this table, the plug-in's last."""
    values: dict[str, Any] = {}
    for one in _fields(type(table)):
        value = getattr(table, one.name)
        values |= key_values(value) if _is_group(one) else {one.name: value}
    for own in table.settings if isinstance(table, PluginTable) else ():
        values |= key_values(own)
    return values


def value_of(table: Any, path: str) -> Any:
    """The value of a setting by its dotted path; None if the chosen plug-in lacks the key."""
    key, _, rest = path.partition(".")
    value = key_values(table).get(key)
    return value_of(value, rest) if rest else value


def made(kind: type[S], values: Mapping[str, Any]) -> S:
    """Settings of this type from values by key; missing keys have defaults, other keys are ignored.

    Raises ConfigError for a value out of range.
    """
    hints, own = typing.get_type_hints(kind), dict[str, Any]()
    for one in _fields(kind):
        if _is_group(one):
            own[one.name] = made(hints[one.name], values)
        elif one.name in values:
            own[one.name] = values[one.name]
    return kind(**own)


def chosen(kind: type[P], owners: Iterable[type], values: Mapping[str, Any]) -> P:
    """A table of this type with these values; `owners` are the settings types of its plug-ins."""
    owners = tuple(owners)
    own = {key for owner in owners for key in key_types(owner)}
    settings: tuple[object, ...] = tuple(made(owner, values) for owner in owners)
    return kind(settings=settings, **{key: value for key, value in values.items() if key not in own})


def changed(table: P, **values: Any) -> P:
    """The table with changed values of common keys or of the plug-in's."""
    return chosen(type(table), map(type, table.settings), {**key_values(table), **values})


def check_settings_type(what: str, kind: object, table: type[PluginTable]) -> None:
    """Raises ConfigError for a settings type that cannot extend this table."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and issubclass(kind, Hashable)):
        raise ConfigError(f"{what} must be a frozen dataclass, got {kind!r}")
    if taken := sorted(key_types(kind).keys() & key_types(table).keys()):
        raise ConfigError(f"{what} must not have the common keys {', '.join(taken)}")
    for key, hint in key_types(kind).items():
        if hint not in _KEY_TYPES:
            able = "bool, int, float, str or a tuple[..., ...] of one of the last three"
            raise ConfigError(f"{what} must have keys of type {able}; {key!r} is of {hint}")
    for one in dataclasses.fields(kind):
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{what} must have a default for each key, got none for {one.name!r}")


def _read_fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    fields, is_table = dataclasses.fields(kind), issubclass(kind, PluginTable)
    return tuple(one for one in fields if not (is_table and one.name == "settings"))


_fields: Callable[[type], tuple[dataclasses.Field[Any], ...]] = cache(_read_fields)


def _is_group(one: dataclasses.Field[Any]) -> bool:
    return bool(one.metadata.get(_GROUP))


def _within(settings: object) -> Iterator[object]:
    """These settings and all groups in them."""
    yield settings
    for one in _fields(type(settings)):
        if _is_group(one):
            yield from _within(getattr(settings, one.name))
