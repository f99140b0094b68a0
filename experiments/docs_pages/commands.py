"""The page of the commands: the `--help` of each."""

from collections.abc import Iterator

import click

from experiments.cli.main import main
from experiments.docs_pages.markdown import code, fence, heading


def page() -> str:
    """The whole page."""
    text = "# Commands\n\nWhat `--help` says of each command.\n\n"
    return text + "\n".join(_section(context) for context in contexts())


def contexts(parent: click.Context | None = None) -> Iterator[click.Context]:
    """Each command of `splitfl`, groups before their members."""
    context = parent or click.Context(main, info_name="splitfl", terminal_width=100, max_content_width=100)
    yield context
    if isinstance(context.command, click.Group):
        for name, command in sorted(context.command.commands.items()):
            yield from contexts(
                click.Context(
                    command, parent=context, info_name=name, terminal_width=100, max_content_width=100
                )
            )


def _section(context: click.Context) -> str:
    path = context.command_path
    return heading(2, code(path), f"command-{path.replace(' ', '-')}") + fence(
        context.command.get_help(context)
    )
