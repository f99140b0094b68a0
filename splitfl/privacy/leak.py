"""The score of an attack on a round: one event of a run's metrics.jsonl."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LABELS: Final = {
    "token_recovery": "tokens recovered",
    "rare_token_recovery": "rare tokens recovered",
    "text_recovery": "texts recovered whole",
    "label_accuracy": "labels recovered",
    "label_auc": "AUC of the labels",
}
"""What each measure is called; the first one of an attack is its figure in comparisons."""

_SHARES: Final = ("_recovery", "_accuracy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """A measure of an attack on the `n` observed tokens, texts or samples of a round.

    `low` and `high` bound the 95 % bootstrap interval over samples; `chance` is the value of a guess that is
    always the most frequent token or class (0.5 of an AUC). `knows` is what the attacker was given; its
    copies of the client's pieces are `age` rounds old. Figures without interval or chance have None.
    """

    round: int
    attack: str
    metric: str
    value: float
    n: int
    knows: str
    age: int = 0
    low: float | None = None
    high: float | None = None
    chance: float | None = None


def leak_text(leak: Leak) -> str:
    """The value as people read it: a share in percent, any other figure as a number."""
    return f"{100 * leak.value:.1f} %" if leak.metric.endswith(_SHARES) else f"{leak.value:.3g}"


def headline(leaks: Iterable[Leak]) -> dict[str, Leak]:
    """The first measure of each attack after the last observed round, with pieces of that round."""
    found: dict[str, Leak] = {}
    for leak in leaks:
        if leak.age == 0 and (leak.attack not in found or leak.round > found[leak.attack].round):
            found[leak.attack] = leak
    return found
