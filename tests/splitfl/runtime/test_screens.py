"""What a person sees of a run that is started from Python."""

import io
from pathlib import Path
from typing import Any

import pytest

import splitfl
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.runtime.notebook_screen import NotebookScreen
from splitfl.runtime.screen import round_figures
from splitfl.runtime.terminal import plain_console
from splitfl.runtime.terminal_screen import TerminalScreen
from tests.splitfl import toy

ROW: dict[str, Any] = {"round": 0, "train_loss": 0.5, "finish_s": 2.0, "wall_s": 1.0}


class Cell:
    """The output of a notebook's cell: every state of it, in order."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, text: str) -> Any:
        self.shown.append(text)
        return self.shown.append


def test_a_notebook_shows_a_bar_and_a_row_of_metrics_for_each_round(tmp_path: Path) -> None:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv")
    cell = Cell()
    with NotebookScreen(toy.config(tmp_path), 12, cell, now_s=lambda: float(len(cell.shown))) as screen:
        result = splitfl.run(toy.table(tmp_path), out=tmp_path / "runs", screen=screen)
    assert cell.shown[0] == '<div><progress value="0" max="12"></progress> loading, 0/12 steps</div>'
    assert "round 2/2, 12/12 steps" in cell.shown[-2]
    assert '<progress value="12" max="12"></progress> done' in cell.shown[-1]
    assert cell.shown[-1].count("<tr>") == 3
    assert f"<td>{result.metrics['train_loss'][1]:.3f}</td>" in cell.shown[-1]
    assert "<th>accuracy</th>" in cell.shown[-1]


def test_a_notebook_is_drawn_a_few_times_a_second_at_most() -> None:
    cell, now_s = Cell(), 0.0
    screen = NotebookScreen(RunConfig(), None, cell, now_s=lambda: now_s)
    for step in range(100):
        now_s = step / 100
        screen.stepped(0, 0, 1)
    assert 4 <= len(cell.shown) <= 6


def test_a_notebook_shows_text_as_it_is_and_that_a_run_ended_early() -> None:
    cell = Cell()
    with pytest.raises(ConfigError), NotebookScreen(RunConfig(), None, cell) as screen:  # noqa: PT012
        screen.note("<b> & more")
        raise ConfigError("no")
    assert "<div>&lt;b&gt; &amp; more</div>" in cell.shown[-1]
    assert "ended early" in cell.shown[-1]


def test_a_terminal_has_a_line_for_each_round() -> None:
    said = io.StringIO()
    console = plain_console(file=said, terminal=False, width=200)
    with TerminalScreen(console, RunConfig(), 12, invites=False) as screen:
        screen.measured(ROW | {"accuracy": 0.75})
    rounds = RunConfig().federation.rounds
    assert f"round 1/{rounds}   train loss 0.500   accuracy 75.0 %   virtual clock 2 s" in said.getvalue()


def test_a_figure_that_was_not_measured_is_left_out() -> None:
    assert list(round_figures(ROW)) == ["train loss", "virtual clock"]
    assert list(round_figures(ROW | {"train_loss": None})) == ["virtual clock"]


def test_live_figures_stand_beside_the_progress() -> None:
    cell, said = Cell(), io.StringIO()
    notebook = NotebookScreen(RunConfig(), None, cell, now_s=lambda: float(len(cell.shown)))
    console = plain_console(file=said, terminal=True, width=200)
    with TerminalScreen(console, RunConfig(), 12, invites=False) as terminal:
        for screen in (notebook, terminal):
            screen.live("up 12.0 dB, 300 kbit/s")
            screen.stepped(0, 0, 1)
    rounds = RunConfig().federation.rounds
    assert f"round 1/{rounds}, up 12.0 dB, 300 kbit/s, 1 steps" in cell.shown[-1]
    assert f"round 1/{rounds}  up 12.0 dB, 300 kbit/s" in said.getvalue()
