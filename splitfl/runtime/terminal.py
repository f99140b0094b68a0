"""The one place that makes consoles and bars: what they are given is shown as it is.

rich reads markup in what it prints, such as `[red]`, and codes of emoji, such as `:bug:`. A folder,
a model or an error may well hold either, so nobody else makes a console (a test sees to it), and
what is to have a style is a `Text` with that style.
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
    """A console that takes every string as text; `terminal` decides whether it draws as on one."""
    return Console(
        stderr=stderr,
        width=width,
        force_terminal=terminal,
        file=file,
        markup=False,
        emoji=False,
        highlight=False,
    )


def say(line: str) -> None:
    """A remark on what is done otherwise than was written, beside what a script reads."""
    plain_console(stderr=True).print(line, style="yellow", soft_wrap=True)


def counting_bar(
    console: Console, *before: str, unit: str = "", live: bool = True, transient: bool = True
) -> Progress:
    """A bar that counts; `before` are columns of text, in which {task.description} is what is going on.

    Where it is not `live` it is drawn when it is told to only.
    """
    columns: list[ProgressColumn] = [TextColumn(text, markup=False) for text in before]
    columns += [BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn(unit, markup=False)] if unit else []
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=transient, auto_refresh=live)


def working(console: Console, what: str) -> Status:
    """Turns a wheel beside these words, as a context."""
    return console.status(Text(what))
