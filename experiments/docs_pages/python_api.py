"""The pages of the Python interface, from signatures and docstrings."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

import splitfl
from experiments.docs_pages.markdown import heading, table
from splitfl.core.registry import Registry

SEAMS: Final = (
    "splitfl.core.registry",
    "splitfl.core.messages",
    "splitfl.core.errors",
    "splitfl.methods.parts.spec",
    "splitfl.methods.parts.method",
    "splitfl.adapters.kind",
    "splitfl.wire.codecs.codec",
    "splitfl.transport.base.spec",
    "splitfl.transport.base.transport",
    "splitfl.transport.base.carrier",
    "splitfl.setup.link_kinds.kind",
    "splitfl.federation.aggregators",
    "splitfl.privacy.spec",
    "splitfl.privacy.guess",
    "splitfl.privacy.observation",
    "splitfl.models.cut",
    "splitfl.run_folder.read",
)
"""Modules with the interfaces of plug-ins, and the return types of `splitfl`'s functions."""

CHANNEL: Final = ("core", "phy", "propagation", "links", "scenario", "cell", "live")
"""The packages of the channel for use by other programs, without calibration and validation."""

_SPLITFL: Final = """# Python: `splitfl`

Each name is imported, together with torch, when it is first used. [](/library.md) has examples.

"""


def pages() -> dict[str, str]:
    """Each page by its file name: `splitfl`, what plug-ins implement, and the packages of `channel`."""
    seams = "# Python: plug-ins and results\n\n" + "\n".join(_module(name) for name in SEAMS)
    found = {"python-splitfl.md": _splitfl(), "python-plugins.md": seams}
    for room in CHANNEL:
        package = importlib.import_module(f"channel.{room}")
        modules = [f"channel.{room}.{one.name}" for one in pkgutil.iter_modules(package.__path__)]
        body = "\n".join(map(_module, modules))
        found[f"python-channel-{room}.md"] = f"# Python: `channel.{room}`\n\n{_doc(package)}\n\n{body}"
    return found


def _splitfl() -> str:
    functions, registries = [], []
    for name in splitfl.__all__:
        value = getattr(splitfl, name)
        if isinstance(value, Registry):
            registries.append((f"`splitfl.{name}`", f"`{value.group}`", _entry(value)))
        else:
            functions.append(_function(value, f"splitfl.{name}"))
    head = heading(2, "Registries") + "Mappings of names to plug-ins.\n\n"
    kinds = table(("name", "entry-point group", "its entries are"), registries)
    return _SPLITFL + "\n".join(functions) + head + kinds


def _entry(registry: Registry[Any]) -> str:
    kind = type(next(iter(registry.values())))
    return f"{{py:class}}`~{kind.__module__}.{kind.__qualname__}`"


def _module(name: str) -> str:
    module = importlib.import_module(name)
    members = "\n".join(_member(one, f"{name}.{one.__name__}") for one in _public(module))
    return heading(2, f"`{name}`") + f"{_doc(module)}\n\n{members}"


def _public(module: ModuleType) -> Iterator[Any]:
    """The functions and classes defined in this module, in order."""
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", "") == module.__name__
        if is_own and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            yield value


def _member(value: Any, path: str) -> str:
    return _class(value, path) if inspect.isclass(value) else _function(value, path)


def _class(kind: type, path: str) -> str:
    directive = "exception" if issubclass(kind, Exception) else "class"
    members = "".join(
        _attribute(name, value) for name, value in vars(kind).items() if not name.startswith("_")
    )
    return _directive(directive, f"{path}{_signature(kind)}", f"{_doc(kind)}\n\n{members}", 5)


def _attribute(name: str, value: Any) -> str:
    if isinstance(value, classmethod | staticmethod):
        return _directive("classmethod", f"{name}{_signature(value.__func__)}", _doc(value.__func__), 4)
    if inspect.isfunction(value):
        return _directive("method", f"{name}{_signature(value)}", _doc(value), 4)
    return _directive("property", name, _doc(value), 4) if isinstance(value, property) else ""


def _function(value: Any, path: str) -> str:
    return _directive("function", f"{path}{_signature(value)}", _doc(value), 5)


def _directive(kind: str, signature: str, text: str, ticks: int) -> str:
    fence = "`" * ticks
    return f"{fence}{{py:{kind}}} {signature}\n{text.strip()}\n{fence}\n"


def _signature(value: Any) -> str:
    """The signature in one line; `...` for defaults without a literal form."""
    try:
        text = str(inspect.signature(value))
    except (ValueError, TypeError):
        return ""
    text = re.sub(r"\(self(?:, )?", "(", text)
    text = re.sub(r"\b(?:collections\.abc|typing)\.", "", text)
    if inspect.isclass(value):
        text = text.removesuffix(" -> None")
    return re.sub(r"<(?:factory|function|class|object)[^>]*>", "...", text)


def _doc(value: Any) -> str:
    """The docstring as Markdown, with its examples as code blocks."""
    text = inspect.cleandoc(value.__doc__ or "")
    return re.sub(r"(?m)^>>> (?:.|\n(?!\n))*", lambda match: f"```pycon\n{match[0]}\n```", text)
