"""Texts for other testbeds, as the command prints them."""

import subprocess
from pathlib import Path

from click.testing import CliRunner

from experiments.cli.main import main


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


def test_an_unknown_template_is_refused() -> None:
    result = CliRunner().invoke(main, ["testbed", "template", "powdre"])
    assert result.exit_code == 2
    assert "unknown template 'powdre'; did you mean 'powder'?" in result.output
