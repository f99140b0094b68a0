"""However a command ends, a person reads one sentence, and a fault of ours says where its traceback is."""

import tempfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from channel.core.errors import BadParameter
from experiments.cli.exits import names_folder, reports_errors
from splitfl.core.errors import ConfigError, PeerLost


def ended(error: BaseException) -> Result:
    """How a command ends that raises this."""

    @click.command()
    @reports_errors
    def command() -> None:
        raise error

    return CliRunner().invoke(command, [])


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (ConfigError("a setting"), "Error: a setting", 2),
        (BadParameter("of the channel"), "Error: of the channel", 2),
        (PeerLost("somebody"), "Error: somebody", 1),
        (
            FileNotFoundError(2, "No such file or directory", "x[y]"),
            "Error: x[y]: No such file or directory",
            1,
        ),
        (OSError("no number and no name"), "Error: the system: no number and no name", 1),
        (click.UsageError("give one"), "Error: give one", 2),
    ],
)
def test_an_error_that_was_foreseen_is_one_line(
    error: BaseException, sentence: str, code: int, tmp_path: Path
) -> None:
    result = ended(error)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1] == sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [RuntimeError("one\ntwo"), KeyError("x"), ZeroDivisionError(), MemoryError()]
)
def test_an_unexpected_error_names_the_file_of_its_traceback(error: Exception, tmp_path: Path) -> None:
    result = ended(error)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: unexpected {type(error).__name__}: ")
    (kept,) = tmp_path.glob("splitfl-error-*.txt")
    assert line.endswith(f"its traceback is in {kept}")
    assert "Traceback" in kept.read_text()


def test_a_traceback_of_a_run_is_in_the_folder_of_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    error = RuntimeError("one")
    with pytest.raises(RuntimeError), names_folder(lambda: folder):
        raise error
    result = ended(error)
    (kept,) = folder.glob("splitfl-error-*.txt")
    assert result.stderr.endswith(f"its traceback is in {kept}\n")
    assert "raise error" in kept.read_text()


def test_a_traceback_for_which_there_is_no_room_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not-there"))
    result = ended(RuntimeError("one"))
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "Error: unexpected RuntimeError: one"


EVERY_GROUP = (
    "experiments.cli.main:main",
    "experiments.soak.__main__:main",
    "experiments.bench.__main__:main",
)


@pytest.mark.parametrize("named", EVERY_GROUP)
def test_every_command_ends_so(named: str) -> None:
    module, _, name = named.partition(":")
    for command in leaves(getattr(__import__(module, fromlist=["x"]), name)):
        assert command.callback.__globals__["__name__"] == "experiments.cli.exits", command.name


def leaves(command: click.Command) -> list[click.Command]:
    if isinstance(command, click.Group):
        return [leaf for one in command.commands.values() for leaf in leaves(one)]
    return [command]
