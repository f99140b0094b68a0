"""Consoles and progress bars that print text verbatim.

rich interprets markup such as `[red]` and emoji codes such as `:bug:`, which names of folders and models
or errors may contain. So all consoles are made here (a test checks it), and styled text is a `Text`.
"""

from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.status import Status
from rich.text import Text


def plain_console(
    *,
    stderr: bool = False,
    width: int | None = None,
    terminal: bool | None = None,
    file: IO[str] | None = None,
) -> Console:
    """A console without markup; `terminal` forces or prevents terminal output."""
    return Console(
        stderr=stderr,
        width=width,
        force_terminal=terminal,
        file=file,
        markup=False,
        emoji=False,
        highlight=False,
    )


def print_note(line: str) -> None:
    """Prints a note to stderr, for example on dropped settings."""
    plain_console(stderr=True).print(line, style="yellow", soft_wrap=True)


def counting_bar(
    console: Console, *before: str, unit: str = "", live: bool = True, transient: bool = True
) -> Progress:
    """A progress bar with a counter; `before` are text columns, which may use {task.description}.

    Unless `live`, it is redrawn only on request.
    """
    columns: list[ProgressColumn] = [TextColumn(text, markup=False) for text in before]
    columns += [BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn(unit, markup=False)] if unit else []
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=transient, auto_refresh=live)


def spinner(console: Console, what: str) -> Status:
    """A context with a spinner and this text."""
    return console.status(Text(what))
