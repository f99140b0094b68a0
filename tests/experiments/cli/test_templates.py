"""Texts for other testbeds, as the command prints them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from tests.testbed.colosseum.node import SCRIPTS, SHELL, ScriptedNode
from tests.testbed.waiting import until


def printed(name: str) -> str:
    result = CliRunner().invoke(main, ["testbed", "template", name])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_profile_for_powder_is_python_that_describes_itself() -> None:
    """Where its words are those of geni-lib was checked with it by hand; it is not among the packages."""
    code = compile(printed("powder"), "powder", "exec")
    assert code.co_consts[0].startswith("A server and clients for splitfl on POWDER")
    assert "Instructions:\n" in code.co_consts[0]  # a heading that POWDER's portal looks for


def test_the_commands_for_orbit_are_sh_and_ask_for_what_they_need(tmp_path: Path) -> None:
    script = tmp_path / "orbit.sh"
    script.write_text(printed("orbit"))
    subprocess.run(["sh", "-n", script], check=True)
    done = subprocess.run(["sh", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "usage: sh orbit.sh IMAGE NODE,NODE,...\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "seconds", "code"), [("echo learnt", 20, 0), ("exit 3", 20, 3), ("sleep 60", 1, 1)]
)
def test_the_script_for_aerpaw_plays_a_nodes_part_and_leaves_its_results(
    run: str, seconds: int, code: int, tmp_path: Path
) -> None:
    root, results, script = tmp_path / "root", tmp_path / "results", tmp_path / "aerpaw.sh"
    with ScriptedNode(root, run=run) as node:
        for path in SCRIPTS.iterdir():
            target = root / ("root/radio_api" if path.suffix else "opt/splitfl/bin") / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        script.write_text(printed("aerpaw"))
        done = subprocess.run([SHELL, script, str(seconds), results], env=node.environment, timeout=60)
    assert done.returncode == code
    assert (results / "loop-1" / "run.log").exists()
    assert "FINISHED" in (results / "radio.log").read_text()
    pid = int((root / "run/splitfl/pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists(), 10)


def test_an_unknown_template_is_refused() -> None:
    result = CliRunner().invoke(main, ["testbed", "template", "powdre"])
    assert result.exit_code == 2
    assert "unknown template 'powdre'; did you mean 'powder'?" in result.output
