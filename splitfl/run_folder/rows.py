"""Builds frozen dataclasses from JSON objects: every field checked by name, type and finiteness."""

import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, NamedTuple, TypeVar

from splitfl.core.errors import ConfigError

T = TypeVar("T")

MAY_DIVERGE = frozenset({"loss", "train_loss", "eval_loss", "perplexity"})
"""Fields that may be null, or, in older files, NaN or infinite, as of a diverged run."""


class _Field(NamedTuple):
    name: str
    kind: type
    may_be_null: bool
    is_required: bool


def build_row(kind: Callable[..., T], table: Mapping[str, Any]) -> T:
    """A `kind` from the values of this table; keys without a field are ignored.

    Raises ConfigError for a field that is missing, of another type, or not finite.
    """
    values = {}
    for field in _fields(kind):
        if field.name in table:
            values[field.name] = _checked(field, table[field.name])
        elif field.is_required:
            raise ConfigError(f"{field.name} is missing")
    return kind(**values)


@cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        _Field(field.name, *_kind(hints[field.name]), field.default is MISSING) for field in fields(kind)
    )


def _kind(hint: Any) -> tuple[type, bool]:
    """The runtime type of a hint such as `int | None` or `Sequence[str]`, and whether None is permitted."""
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    (plain,) = (choice for choice in choices if choice is not types.NoneType)
    shape = {Mapping: dict, Sequence: list}.get(typing.get_origin(plain), plain)
    return shape, types.NoneType in choices


def _checked(field: _Field, value: Any) -> Any:
    if value is None and field.may_be_null:
        return None
    if value is None and field.name in MAY_DIVERGE:
        return math.nan
    if field.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not field.kind:
        raise ConfigError(f"{field.name} must be of type {field.kind.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value) and field.name not in MAY_DIVERGE:
        raise ConfigError(f"{field.name} must be finite, got {value}")
    return value
