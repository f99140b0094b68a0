"""A dataclass of settings as a table of its keys: type, default, allowed values and meaning."""

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Final

from experiments.docs_pages.allowed_values import allowed
from experiments.docs_pages.markdown import code, codes, table

_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}
_SENTENCE_END: Final = re.compile(r"(?<=\.)\s+(?=[A-Z`])")


def nested(settings: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each table of these settings by its dotted name, the outermost first, as an instance."""
    yield path, settings
    for key, value in _values(settings):
        if dataclasses.is_dataclass(value):
            yield from nested(value, f"{path}.{key}" if path else key)


def keys_table(settings: object, links: dict[str, str] | None = None) -> str:
    """The keys of one table; `links` says instead of the allowed values where these stand."""
    kind, links = type(settings), links or {}
    hints, meanings = typing.get_type_hints(kind), meaning(kind)
    rows, before = [], ""
    for key, value in _values(settings):
        if dataclasses.is_dataclass(value):
            continue
        may_be = links.get(key) or _names_as_code(allowed(settings, key, hints[key]))
        said = meanings.get(key, "")
        cell = "as above" if said and said == before else said
        rows.append((code(key), type_name(hints[key]), code(toml(value)), may_be, cell))
        before = said or before
    return table(("key", "type", "default", "allowed", "meaning"), rows) if rows else ""


def meaning(kind: type) -> dict[str, str]:
    """What the docstring says of each key: the sentences that name it, with those that continue them."""
    keys = [field.name for field in dataclasses.fields(kind)]
    said: dict[str, list[str]] = {key: [] for key in keys}
    for named, sentence in _sentences(kind):
        for key in named:
            said[key].append(sentence)
    return {key: " ".join(sentences) for key, sentences in said.items() if sentences}


def about(kind: type) -> str:
    """The sentences of the docstring that are about none of its keys."""
    return " ".join(sentence for named, sentence in _sentences(kind) if not named)


def type_name(hint: Any) -> str:
    """A type by the word that TOML has for it."""
    if typing.get_origin(hint) is tuple:
        inner = type_name(typing.get_args(hint)[0])
        return f"array of {inner.replace('array', 'arrays', 1) if inner.startswith('array') else f'{inner}s'}"
    if isinstance(hint, types.UnionType):
        return " or ".join(type_name(one) for one in typing.get_args(hint) if one is not type(None))
    return _TYPES.get(hint, str(getattr(hint, "__name__", hint)))


def toml(value: object) -> str:
    """A value as a TOML file has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) >= 1e6 else repr(value)
    return json.dumps(value)


def _values(settings: object) -> Iterator[tuple[str, Any]]:
    assert dataclasses.is_dataclass(settings)
    for field in dataclasses.fields(settings):
        yield field.name, getattr(settings, field.name)


def _sentences(kind: type) -> Iterator[tuple[list[str], str]]:
    """Each sentence of the docstring and the keys that it, or the one before it in its paragraph, names."""
    keys = [field.name for field in dataclasses.fields(kind)]
    for paragraph in (inspect.getdoc(kind) or "").split("\n\n"):
        named: list[str] = []
        for sentence in _SENTENCE_END.split(paragraph.replace("\n", " ")):
            named = [key for key in keys if re.search(rf"`{key}\b[^`]*`", sentence)] or named
            yield named, sentence


def _names_as_code(said: str) -> str:
    return codes(said.split(", ")) if re.fullmatch(r"[\w.-]+(, [\w.-]+)*", said) else said
