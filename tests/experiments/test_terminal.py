"""Nothing of a user's is read as markup: it is shown as it is, wherever it comes from."""

import ast
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.panel import Panel
from rich.table import Table

import experiments
from experiments.screen import summary_table
from splitfl.config import RunConfig
from splitfl.runtime.terminal import counting_bar, plain_console, spinner
from splitfl.runtime.terminal_screen import TerminalScreen

NASTY = ["a[b]", "[/red]", "[bold]", ":bug:", r"\[x]", "[link=file:///x]y[/link]", "[/]"]
SEAM = "terminal.py"
ROOT = Path(experiments.__file__).parents[1]
SOURCES = [
    path
    for package in ("experiments", "splitfl")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != SEAM
]
MAKERS = {"Console", "Progress", "TextColumn", "Status", "from_markup", "render_markup"}


def calls(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_only_one_module_makes_consoles() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if any(name in text for name in MAKERS):  # to parse every file would take seconds
            assert not set(calls(text)) & MAKERS, path
        assert ".status(" not in text or "rich" not in text, path
        assert "[/" not in text, path


@pytest.mark.parametrize("nasty", NASTY)
def test_printed_texts_are_shown_verbatim(nasty: str) -> None:
    said = io.StringIO()
    console = plain_console(file=said, terminal=False, width=200)
    table = Table("name", title=nasty)
    table.add_row(nasty)
    console.print(nasty)
    console.print(table)
    console.print(Panel(nasty))
    assert said.getvalue().count(nasty) == 4


@pytest.mark.parametrize("nasty", NASTY)
def test_progress_texts_are_shown_verbatim(nasty: str) -> None:
    said = io.StringIO()
    console = plain_console(file=said, terminal=True, width=200)
    with counting_bar(console, "{task.description}", unit=nasty.replace("{", ""), transient=False) as bar:
        bar.update(bar.add_task(nasty), total=1, advance=1, refresh=True)
    assert said.getvalue().count(nasty) >= 2
    with spinner(console, f"look {nasty}"):
        pass
    assert f"look {nasty}" in said.getvalue()


@pytest.mark.parametrize("nasty", NASTY)
def test_a_runs_folder_and_messages_are_shown_as_they_are(nasty: str) -> None:
    said = io.StringIO()
    console = plain_console(file=said, terminal=False, width=200)
    with TerminalScreen(console, RunConfig(), 1, invites=True) as screen:
        screen.waiting(f"host-{nasty}", [0])
        screen.note(f"lost {nasty}")
    console.print(summary_table(SUMMARY, Path("runs") / nasty.replace("/", "|")))
    assert f"splitfl join host-{nasty} --transport rpc --client N, N one of [0]" in said.getvalue()
    assert f"lost {nasty}" in said.getvalue()
    assert str(Path("runs") / nasty.replace("/", "|")) in said.getvalue()


SUMMARY = {
    "final": {"train_loss": 1.0},
    "transport": "inproc",
    **dict.fromkeys(("bytes_up", "bytes_down", "packets", "retransmissions"), 1),
    **dict.fromkeys(("airtime_s", "virtual_s", "wall_s", "client_flops", "server_flops"), 1.0),
    "client_peak_bytes": None,
}
