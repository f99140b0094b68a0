"""A run in a notebook: a progress bar, and a table with the metrics of each round below it."""

import html
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from types import TracebackType
from typing import Any, Final, Self

from splitfl.config import RunConfig
from splitfl.runtime.screen import round_figures

_REDRAW_S: Final = 0.2

Show = Callable[[str], Callable[[str], None]]
"""Shows HTML in the output of a cell; returns what replaces it there."""


class NotebookScreen:
    """One output of a notebook cell, redrawn during the run; needs IPython but no widgets.

    `total` is the number of training steps, if known.
    """

    def __init__(
        self,
        config: RunConfig,
        total: int | None,
        show: Show | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rounds, self._total, self._now_s = config.federation.rounds, total, now_s
        self._steps, self._state, self._figures = 0, "loading", ""
        self._rows: list[dict[str, str]] = []
        self._notes: list[str] = []
        self._drawn_s = now_s()
        self._replace = (show or _show)(self.html())

    def waiting(self, address: str, missing: list[int]) -> None:
        """Shows which clients are missing."""
        names = ", ".join(map(str, missing))
        self._draw(f"server at {address}, waiting for client {names}" if missing else "training")

    def note(self, what: str) -> None:
        """Adds a note below the table."""
        self._notes.append(what)
        self._draw(self._state)

    def live(self, figures: str) -> None:
        """Shows them from the next step on."""
        self._figures = f", {figures}"

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """Advances the bar; redraws it a few times per second."""
        self._steps += steps
        self._state = f"round {round_index + 1}/{self._rounds}{self._figures}"
        if self._now_s() - self._drawn_s >= _REDRAW_S:
            self._draw(self._state)

    def measured(self, row: Mapping[str, Any]) -> None:
        """Adds a row to the table."""
        self._rows.append({"round": str(row["round"] + 1)} | round_figures(row))
        self._draw(self._state)

    def html(self) -> str:
        """The current output as HTML."""
        share = f'value="{self._steps}" max="{self._total}"' if self._total else ""
        of = f"/{self._total}" if self._total else ""
        bar = f"<progress {share}></progress> {html.escape(self._state)}, {self._steps}{of} steps"
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        lines = [[row.get(name, "") for name in names] for row in self._rows]
        notes = "".join(f"<div>{html.escape(what)}</div>" for what in self._notes)
        return f"<div>{bar}</div>{table(names, lines) if lines else ''}{notes}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw("done" if kind is None else "ended early")

    def _draw(self, state: str) -> None:
        self._state, self._drawn_s = state, self._now_s()
        self._replace(self.html())


def table(names: list[str], lines: list[list[str]]) -> str:
    """An HTML table of texts."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in line)}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _show(text: str) -> Callable[[str], None]:
    display = import_module("IPython.display")  # available in notebooks, and needed only there
    handle = display.display(display.HTML(text), display_id=True)
    return lambda new: handle.update(display.HTML(new))
