"""A package that another party installed: one module, and the entry point by which it registers a plug-in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from splitfl.core.registry import Registry


def package(folder: Path, group: str, name: str, code: str) -> Path:
    """A folder for sys.path whose module's `PLUGIN` is registered under this name in this group."""
    module = f"foreign_{name}"
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:PLUGIN\n")
    return folder


@contextmanager
def installed(folder: Path, registry: Registry[Any]) -> Iterator[None]:
    """The registry with what is registered in this folder, as a process finds it that begins now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry.__dict__.pop("_plugins", None)
        yield
    registry.__dict__.pop("_plugins", None)
