"""A dataclass of settings as a table of its keys: type, default, allowed values and meaning."""

import dataclasses
import inspect
import json
import re
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
    """The keys of one table; `links` replaces the allowed values by links."""
    links, meanings = links or {}, meaning(settings)
    rows, before = [], ""
    for key, (hint, value) in keys(settings).items():
        may_be = links.get(key) or _names_as_code(allowed(settings, key, hint))
        said = meanings.get(key, "")
        cell = "as above" if said and said == before else said
        rows.append((code(key), type_name(hint), code(toml(value)), may_be, cell))
        before = said or before
    return table(("key", "type", "default", "allowed", "meaning"), rows) if rows else ""


def keys(settings: object) -> dict[str, tuple[Any, Any]]:
    """The type and the value of each key of this table, without the tables inside it."""
    hints = typing.get_type_hints(type(settings))
    found = {key: (hints[key], value) for key, value in _values(settings)}
    return {key: one for key, one in found.items() if _is_plain(one[0])}


def meaning(settings: object) -> dict[str, str]:
    """The description of each key: the docstring's sentences that name it, and their continuations.

    For a key that is not named, the sentences that name one of its allowed values.
    """
    found = dict[str, str]()
    for key, (hint, _) in keys(settings).items():
        values = allowed(settings, key, hint).split(", ")
        sentences = _about((key,), settings) or _about(tuple({*values} - {"none", "auto"}), settings)
        if sentences:
            found[key] = sentences
    return found


def about(settings: object) -> str:
    """The sentences of the docstring that are about none of its keys."""
    said = " ".join(meaning(settings).values())
    return " ".join(one for paragraph in _paragraphs(settings) for one in paragraph if one not in said)


def _about(names: tuple[str, ...], settings: object) -> str:
    """The sentences that have one of these names as code, each with those after it that name no key."""
    found: list[str] = []
    for paragraph in _paragraphs(settings):
        is_about = False
        for sentence in paragraph:
            if _has(names, sentence):
                is_about = True
            elif _has(tuple(keys(settings)), sentence):
                is_about = False
            found += [sentence] if is_about else []
    return " ".join(found)


def _has(names: tuple[str, ...], sentence: str) -> bool:
    return any(re.search(rf"`{re.escape(name)}\b[^`]*`", sentence) for name in names if name)


def _paragraphs(settings: object) -> list[list[str]]:
    """The sentences of the docstring, paragraph by paragraph."""
    text = inspect.getdoc(type(settings)) or ""
    return [_SENTENCE_END.split(paragraph.replace("\n", " ")) for paragraph in text.split("\n\n")]


def _is_plain(hint: Any) -> bool:
    """Whether a TOML file can hold a value of this type outside a table."""
    if typing.get_origin(hint) is tuple:
        return _is_plain(typing.get_args(hint)[0])
    return hint in _TYPES


def type_name(hint: Any) -> str:
    """A type by the word that TOML has for it."""
    if typing.get_origin(hint) is tuple:
        inner = type_name(typing.get_args(hint)[0])
        return f"array of {inner.replace('array', 'arrays', 1) if inner.startswith('array') else f'{inner}s'}"
    return _TYPES[hint]


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


def _names_as_code(said: str) -> str:
    return codes(said.split(", ")) if re.fullmatch(r"[\w.-]+(, [\w.-]+)*", said) else said
