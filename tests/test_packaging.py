import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PINNED = (
    "install_requires",
    "demo",
    "bleu",
    "rouge",
    "quantization",
    "bitsandbytes",
    "sft-oracle",
    "tensorboard",
    "oracle",
    "dev",
    "docs",
)
PACKAGES = ("channel", "splitfl", "testbed", "experiments")
IMPORT = re.compile(r"^ *(?:import|from(?= [\w.]+ import)) ([\w.]+)", re.MULTILINE)
"""The module of an import; ruff allows one on a line."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without build isolation from a copy, so that nothing is left in the tree."""
    here = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    if "pip" not in here or int(here.get("setuptools", "0").split(".")[0]) < 78:
        pytest.skip("building a wheel needs pip and setuptools 78")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", folder, source], check=True, timeout=120)
    (built,) = folder.glob("splitfl-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".md" and path.parent.name != "__pycache__"
    }
    assert packed == wanted
    assert "experiments/presets/demo.toml" in packed


@pytest.mark.slow
def test_the_wheel_declares_the_command_and_the_extras(wheel):
    (distribution,) = importlib.metadata.distributions(path=[str(wheel)])
    (command,) = distribution.entry_points
    assert (command.group, command.name) == ("console_scripts", "splitfl")
    assert command.value == "experiments.cli.main:main"
    assert distribution.metadata["Requires-Python"] == ">=3.11"
    assert distribution.metadata["License-Expression"] == "Apache-2.0"
    assert distribution.metadata.get_all("Provides-Extra") == [
        *("demo", "data", "bleu", "compression", "rouge", "quantization", "bitsandbytes", "sft-oracle"),
        *("tensorboard", "wandb", "mlflow", "radio", "oracle", "dev", "docs"),
    ]


@pytest.mark.slow
def test_the_command_works_where_only_the_wheel_was_installed(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    # The libraries are borrowed from here, for want of a network; a plain path in a .pth file does not
    # bring along the editable install of this tree.
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True, timeout=120, cwd=tmp_path)
    run = {"check": True, "timeout": 60, "cwd": tmp_path, "capture_output": True, "text": True}
    where = subprocess.run([python, "-c", "import experiments; print(experiments.__file__)"], **run).stdout
    assert Path(where.strip()).is_relative_to(site)
    assert "demo" in subprocess.run([python.parent / "splitfl", "list", "presets"], **run).stdout


def test_every_dependency_is_pinned_within_the_declared_range():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in map(Requirement, declared(*PINNED)):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_imported_packages_are_the_declared_ones():
    def names(*groups):
        return {canonicalize_name(Requirement(line).name) for line in declared(*groups)}

    sources = (path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    modules = {module for source in sources for module in IMPORT.findall(source)}
    roots = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {*PACKAGES}
    # Those whose module and package differ in name, and which need not be installed.
    owners = {
        "sionna": ["sionna-no-rt"],
        "mlflow": ["mlflow-skinny"],
    } | importlib.metadata.packages_distributions()
    imported = {canonicalize_name(owner) for root in roots for owner in owners.get(root, [root])}
    extras = ("demo", "data", "quantization", "bitsandbytes", "wandb", "mlflow", "oracle", "radio")
    assert imported <= names("install_requires", *extras)
    assert names("install_requires") <= imported


def declared(*groups):
    """The requirements of these groups in setup.cfg, as they stand there."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    tables = {**config["options.extras_require"], "install_requires": config["options"]["install_requires"]}
    return [line for group in groups for line in tables[group].splitlines() if line]


def test_runs_need_no_extra():
    """`make demo` installs none: packages of extras may only be imported where they are used."""
    radio, codecs, others = (
        ("numba", "zmq", "sigmf"),
        ("constriction", "backports.zstd"),
        ("tensorboard", "datasets"),
    )
    absent = (*radio, *codecs, "torchao", "bitsandbytes", *others)
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import experiments.commands"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT)
