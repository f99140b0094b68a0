"""When a run counts as diverged, and what helps."""

from typing import Final

from splitfl.core.errors import Diverged
from splitfl.core.state import State, not_finite

ADVICE: Final = (
    "take smaller train.head_lr and train.body_lr, or, if no step was finite, look at the weights and data"
)


def refuse_not_finite(tensors: State, when: str) -> None:
    """Raises Diverged, naming the tensor, for values that are not finite; `when` completes the sentence."""
    if (name := not_finite(tensors)) is not None:
        raise Diverged(f"{name} {when} has values that are not finite: {ADVICE}")
