"""The page of the commands: the `--help` of each."""

from collections.abc import Iterator
from typing import Final

import click

from experiments.cli.main import main
from experiments.docs_pages.markdown import code, fence, heading

_WIDTH: Final = 100


def page() -> str:
    """The whole page."""
    text = "# Commands\n\nThe `--help` text of each command.\n\n"
    return text + "\n".join(_section(context) for context in contexts())


def contexts() -> Iterator[click.Context]:
    """Each command of `splitfl`, groups before their members."""
    return _within(_context(main, "splitfl", None))


def _within(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name, command in sorted(context.command.commands.items()):
            yield from _within(_context(command, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings = {**command.context_settings, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    return click.Context(command, parent=parent, info_name=name, **settings)


def _section(context: click.Context) -> str:
    path = context.command_path
    return heading(2, code(path), f"command-{path.replace(' ', '-')}") + fence(
        context.command.get_help(context)
    )
