"""The wheel of the running splitfl, which nodes install."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from splitfl.core.errors import ConfigError, Timeout
from testbed.errors import CommandFailed

_ROOT: Final = Path(__file__).parents[2]
_PACKAGES: Final = ("channel", "splitfl", "testbed", "experiments")
_FILES: Final = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
_BUILD_S: Final = 300.0


def wheel_of_this_code(kept: Path) -> Path:
    """A wheel of the clone that this process runs from, built once for each state of its files in `kept`.

    Raises ConfigError for a splitfl that was installed from a wheel.
    """
    if not all((_ROOT / name).is_file() for name in _FILES):
        raise ConfigError("this splitfl does not run from a clone: give its wheel by --wheel")
    folder = kept / _digest()
    if not (built := list(folder.glob("*.whl"))):
        shutil.rmtree(kept, ignore_errors=True)  # those of other states
        _build(folder)
        built = list(folder.glob("*.whl"))
    return built[0]


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(_sources()):
        digest.update(f"{path.relative_to(_ROOT)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _sources() -> list[Path]:
    inside = (path for package in _PACKAGES for path in (_ROOT / package).rglob("*"))
    packed = [path for path in inside if path.is_file() and "__pycache__" not in path.parts]
    return [*packed, *(_ROOT / name for name in _FILES)]


def _build(folder: Path) -> None:
    """Builds from a copy, so that the clone stays as it is."""
    with tempfile.TemporaryDirectory() as temporary:
        source, built = Path(temporary) / "source", Path(temporary) / "built"
        for path in _sources():
            copy = source / path.relative_to(_ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        words = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", built, source]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pip", "wheel", *map(str, words)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_BUILD_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Timeout(f"building a wheel took more than {_BUILD_S:g} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CommandFailed(f"the wheel could not be built (or give one by --wheel): {last}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.move(built, part)
        part.rename(folder)  # a killed build leaves no folder of this name
