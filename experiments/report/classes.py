"""How well each class was told from the others: a confusion matrix, and a row a class."""

from matplotlib.axes import Axes

from splitfl.core.confusion import ClassScores, Counts, by_class, of_triples
from splitfl.run_folder.read import RunRecord

MAX_CLASSES = 30
"""A matrix of more cannot be read; the table has them all."""

_MAX_WRITTEN = 12
"""Up to this number of classes the cells hold their counts."""


def confusion(run: RunRecord) -> Counts | None:
    """The counts (C, C) of the last round; None for a run without classes, or that was not measured."""
    names = _names(run)
    triples = next((row.confusion for row in reversed(run.events.rounds) if row.confusion), None)
    return of_triples(triples, len(names)) if triples and names else None


def class_rows(run: RunRecord) -> list[tuple[str, ClassScores]]:
    """Every class by name; none where there is no confusion matrix."""
    counts = confusion(run)
    return [] if counts is None else list(zip(_names(run), by_class(counts), strict=True))


def draw_confusion(axes: Axes, run: RunRecord, counts: Counts) -> None:
    """Shares of each row as shades, the counts written into them where they can be read."""
    names = [name if len(name) <= 14 else f"{name[:13]}…" for name in _names(run)]
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    axes.pcolormesh(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.invert_yaxis()
    axes.grid(visible=False)
    middles = [at + 0.5 for at in range(len(names))]
    axes.set_xticks(middles, names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(middles, names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    if len(names) <= _MAX_WRITTEN:
        for row, column in zip(*counts.nonzero(), strict=True):
            ink = "white" if shares[row, column] > 0.6 else "black"
            text = f"{int(counts[row, column]):,}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink)


def _names(run: RunRecord) -> list[str]:
    return [str(name) for name in run.setting("task.labels")]
