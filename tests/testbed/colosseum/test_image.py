"""Folders for images: what is in them, what is refused, and a recipe run in a file system of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from testbed.colosseum.image import TARGETS, ImageSettings, write_image
from testbed.colosseum.rules import Rules, parse_rules
from tests.command import Start, splitfl

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "testbed" / "colosseum" / "recipes"


def settings(target: str = "colosseum-srn", **changes: Any) -> ImageSettings:
    return ImageSettings(**{"target": target, "name": "splitfl", "rules": Rules(), **changes})


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "splitfl-0.1.0-py3-none-any.whl"
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_a_recipe_the_wheel_and_pinned_versions(
    target: str, tmp_path: Path, wheel: Path
) -> None:
    folder = tmp_path / "image"
    written = {str(path.relative_to(folder)) for path in write_image(folder, settings(target), wheel)}
    assert {"install.sh", "image.env", "constraints.txt", wheel.name} <= written
    assert ("Dockerfile" in written) == (target in ("colosseum-gpu", "docker"))
    assert ("radio_api/status.sh" in written) == (target == "colosseum-srn")
    assert ("lxc.sh" in written) == (target == "colosseum-srn")
    for path in folder.rglob("*.sh"):
        subprocess.run(["sh", "-n", path], check=True)
    assert "@NAME@" not in "".join(path.read_text() for path in folder.glob("*file"))


def test_an_image_is_written_again_over_an_older_one(tmp_path: Path, wheel: Path) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "splitfl-0.0.9-py3-none-any.whl").write_bytes(b"")
    (folder / "wheelhouse").mkdir()
    (folder / "wheelhouse" / "torch.whl").write_bytes(b"")
    written = write_image(folder, settings(extras=("radio",)), wheel)
    assert [path.name for path in folder.glob("*.whl")] == [wheel.name]
    assert (folder / "wheelhouse" / "torch.whl").exists()
    assert folder / "wheelhouse" / "torch.whl" not in written
    assert "extras='[radio]'" in (folder / "image.env").read_text().splitlines()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "colosseum"}, "unknown --for 'colosseum'; did you mean 'colosseum-"),
        ({"name": "split_fl"}, "an image's name must be 1 to 30 letters, digits and dashes, got 'split_fl'"),
        ({"name": "a" * 31}, "an image's name must be 1 to 30"),
        ({"extras": ("radoi",)}, "unknown extra 'radoi'; did you mean 'radio'"),
    ],
)
def test_an_image_that_no_testbed_takes_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changes)
    assert settings(name="a" * 32, rules=parse_rules(["image_name_length=32"]))


def test_a_file_that_is_no_wheel_of_splitfl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the wheel must be a file like splitfl-"):
        write_image(tmp_path / "image", settings(), tmp_path / "torch-2.13.0.whl")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="the program shellcheck is not installed")
def test_the_recipes_pass_shellcheck() -> None:
    subprocess.run(["shellcheck", "-s", "sh", *RECIPES.glob("*.sh")], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the recipe is for Python 3.11")
def test_the_recipe_installs_below_its_prefix_and_may_be_repeated(start: Start, tmp_path: Path) -> None:
    """With this environment's packages in the path, so that pip has nothing to install but the wheel."""
    image, root, packages = tmp_path / "image", tmp_path / "root", tmp_path / "packages"
    made = splitfl(start, tmp_path, "testbed", "image", "--for", "colosseum-srn", "--out", image)
    assert made.code() == 0, made.complained()
    (image / "wheelhouse").mkdir()
    packages.mkdir()
    for path in Path(pytest.__file__).parents[1].iterdir():
        if "splitfl" not in path.name:
            (packages / path.name).symlink_to(path)
    environment = {
        "PATH": f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
        "SPLITFL_ROOT": str(root),
    }
    for _ in range(2):
        done = subprocess.run(
            ["sh", image / "install.sh"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].endswith(f"has splitfl in {root}/opt/splitfl")
    unit = root / "etc/systemd/system/multi-user.target.wants/splitfl-radio.service"
    assert "ExecStart=/opt/splitfl/bin/splitfl-radio" in unit.read_text()
    assert os.access(root / "opt/splitfl/bin/splitfl-radio", os.X_OK)
    assert len(list((root / "root/radio_api").glob("*.sh"))) == 7
    assert not (root / "opt/splitfl/lib/python3.11/site-packages/torch").exists()
    assert (root / "opt/splitfl/lib/python3.11/site-packages/testbed").exists()
