"""The E2E data-to-text task (Novikova et al., SIGDIAL'17): a restaurant's attributes, then a description.

A line of its files is `attributes||text`. The same attributes occur with several texts, which are the
references of a generated text.
"""

from collections.abc import Iterable
from pathlib import Path

from splitfl.core.errors import DataError
from splitfl.data.examples import gather
from splitfl.data.reading.corpus import Corpus
from splitfl.data.reading.file_formats import BadRow
from splitfl.data.reading.rows import Row, Tally

SEPARATOR = "||"
END = "<|endoftext|>"
"""GPT-2's end-of-text token."""

FILES = ("train.txt", ("dev.txt", "test.txt"))


def load_e2e(folder: Path, bad_rows: str) -> Corpus:
    """The corpus of a folder with train.txt, and dev.txt or test.txt. Raises DataError."""
    tally = Tally(bad_rows)
    train, others = FILES
    held_out = next((folder / name for name in others if (folder / name).is_file()), folder / others[-1])
    parts = []
    for path in (folder / train, held_out):
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"cannot read {path}: {error}; give a folder with train.txt and test.txt"
            ) from None
        rows = tally.good(str(path), (_row(at, line) for at, line in enumerate(lines, 1) if line.strip()))
        parts.append(gather([row.text for row in rows], None, [row.group for row in rows]))
    return Corpus(train=parts[0], held_out=parts[1], label_names=(), skipped_rows=tally.skipped)


def references(texts: Iterable[str]) -> dict[str, list[str]]:
    """The reference texts of each prompt, which is the attributes with the separator."""
    found: dict[str, list[str]] = {}
    for text in texts:
        properties, _, said = text.removesuffix(END).partition(SEPARATOR)
        found.setdefault(properties + SEPARATOR, []).append(said)
    return found


def _row(number: int, line: str) -> Row | BadRow:
    place = f"line {number}"
    properties, separator, said = (part.strip() for part in line.partition(SEPARATOR))
    if not (separator and properties and said):
        return BadRow(place, f"must be properties, {SEPARATOR} and a text, got {line!r:.60}")
    return Row(place=place, text=f"{properties}{SEPARATOR}{said}{END}", label="", group=properties)
