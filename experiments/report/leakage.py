"""What the attacks of a run's probes recovered: a curve over rounds, a table, and texts side by side."""

from itertools import cycle, groupby
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes

from experiments.report.drawing import MUTED, PALETTE, in_rounds, legend_above
from splitfl.privacy.leak import LABELS, Leak, headline, leak_text
from splitfl.privacy.shown_texts import SHOWN_TEXTS, ShownText, read_texts
from splitfl.run_folder.read import RunRecord

MAX_TOKENS = 120
"""Tokens of a text that are shown."""


class LeakRow(NamedTuple):
    """A measure of an attack on a round, as cells of a table."""

    round: int
    attack: str
    measure: str
    value: str
    interval: str
    constant: str
    of: str
    age: int
    knows: str


class TextRow(NamedTuple):
    """A text's tokens beside what was recovered: (true token, recovered token, whether they are equal).

    `separator` stands between tokens that carry no spaces of their own.
    """

    attack: str
    round: int
    client: int
    tokens: list[tuple[str, str, bool]]
    separator: str


def leak_rows(run: RunRecord) -> list[LeakRow]:
    """The measures of each attack on the last round that it was tried on."""
    last: dict[str, int] = {}
    for leak in run.events.leaks:
        last[leak.attack] = max(leak.round, last.get(leak.attack, 0))
    return [_row(leak) for leak in run.events.leaks if leak.round == last[leak.attack]]


def text_rows(folder: Path, most: int = SHOWN_TEXTS) -> list[TextRow]:
    """At most `most` texts of the run in this folder: those of the attack that recovered the most of them."""
    by_attack = {name: list(found) for name, found in groupby(read_texts(folder), lambda text: text.attack)}
    rows = {
        name: [
            TextRow(text.attack, text.round, text.client, _pairs(text), _separator(text))
            for text in texts[:most]
        ]
        for name, texts in by_attack.items()
    }

    def recovered(texts: list[TextRow]) -> int:
        return sum(is_right for text in texts for _, _, is_right in text.tokens)

    return max(rows.values(), key=recovered, default=[])


def draw_leakage(axes: Axes, run: RunRecord) -> None:
    """The first measure of each attack against rounds, with that of a constant guess (dotted)."""
    firsts = headline(run.events.leaks)
    for (name, first), colour in zip(firsts.items(), cycle(PALETTE), strict=False):
        rows = [
            one for one in run.events.leaks if (one.attack, one.metric, one.age) == (name, first.metric, 0)
        ]
        rows.sort(key=lambda one: one.round)
        rounds = [one.round + 1 for one in rows]
        axes.plot(rounds, [100 * one.value for one in rows], color=colour, marker="o", label=name)
        if first.chance is not None:
            chances = [100 * (one.chance or 0.0) for one in rows]
            axes.plot(rounds, chances, color=colour, linestyle=":", marker=".", linewidth=1.2)
    axes.plot([], [], color=MUTED, linestyle=":", label="constant guess")
    axes.set_ylim(0, 105)
    axes.set_ylabel("recovered, or AUC (%)")
    in_rounds(axes)
    legend_above(axes, columns=3)


def headline_text(run: RunRecord) -> str:
    """The first measure of each attack in the last observed round, in one line; "" without probes."""
    found = headline(run.events.leaks).values()
    return ", ".join(
        f"{leak.attack} {leak_text(leak)}"
        + ("" if leak.chance is None else f" (constant guess {100 * leak.chance:.1f} %)")
        for leak in found
    )


def _row(leak: Leak) -> LeakRow:
    interval = "" if leak.low is None or leak.high is None else f"{leak.low:.3f} to {leak.high:.3f}"
    return LeakRow(
        round=leak.round + 1,
        attack=leak.attack,
        measure=LABELS.get(leak.metric, leak.metric.replace("_", " ")),
        value=leak_text(leak),
        interval=interval,
        constant="" if leak.chance is None else f"{leak.chance:.3f}",
        of=f"{leak.n:,}",
        age=leak.age,
        knows=leak.knows,
    )


def _pairs(text: ShownText) -> list[tuple[str, str, bool]]:
    shown = list(zip(text.true, text.recovered, strict=True))[:MAX_TOKENS]
    return [(one, other, one == other) for one, other in shown]


def _separator(text: ShownText) -> str:
    return "" if any(" " in token for token in text.true) else " "
