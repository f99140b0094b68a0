"""The allowed values of a setting, parsed from the errors that impossible values raise."""

import dataclasses
import re
import typing
from typing import Any, Final

_REFUSED: Final[dict[type, tuple[Any, ...]]] = {
    int: (-(10**12), 10**12),
    float: (-1e300, 1e300),
    str: ("?",),
}
_PATTERNS: Final = (
    re.compile(r"must (?:lie|be a whole number) (in [\[(].*?[\])][^,;]*)"),
    re.compile(r"must be ((?:at least|at most|above|below) \S+?)(?:,| |$)"),
    re.compile(r"have (\S+(?:, \S+)*)$"),
    re.compile(r"must be ((?:\S+, )*\S+ or \S+),"),
    re.compile(r"must be one of (.*?), got"),
)


def allowed(table: object, key: str, hint: Any) -> str:
    """The range or the names that this key of a table may have; "" if every value is allowed."""
    kind, is_list = _element(hint)
    found: list[str] = []
    for value in _REFUSED.get(kind, ()):
        text = _refusal(table, key, (value,) if is_list else value)
        found += [text] if text and text not in found else []
    return " and ".join(found)


def _element(hint: Any) -> tuple[Any, bool]:
    arguments = typing.get_args(hint)
    return (arguments[0], True) if typing.get_origin(hint) is tuple else (hint, False)


def _refusal(table: object, key: str, value: object) -> str:
    """The allowed values according to this value's error; "" if it is valid."""
    assert dataclasses.is_dataclass(table)
    assert not isinstance(table, type)
    try:
        dataclasses.replace(table, **{key: value})
    except ValueError as error:
        if key not in str(error).partition(" must ")[0].partition("; ")[0]:
            return ""  # the error is about another key
        return next((match[1] for one in _PATTERNS if (match := one.search(str(error)))), "")
    return ""
