"""Pieces of Markdown: tables, code and headings with labels that pages can refer to."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty columns are left out."""
    body = [list(row) for row in rows]
    used = [column for column in range(len(head)) if any(row[column] for row in body)]
    lines = [_row(head[column] for column in used), _row("---" for _ in used)]
    lines += [_row(row[column] for column in used) for row in body]
    return "\n".join(lines) + "\n"


def code(text: object) -> str:
    """Text in the font of code."""
    return f"`{text}`"


def codes(names: Iterable[object]) -> str:
    """Names in the font of code, with commas between them."""
    return ", ".join(map(code, names))


def fence(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"````{language}\n{text.rstrip()}\n````\n"


def heading(level: int, text: str, label: str = "") -> str:
    """A heading, with a label before it if given."""
    target = f"({label})=\n" if label else ""
    return f"{target}{'#' * level} {text}\n\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
