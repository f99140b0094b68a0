"""What may travel between a client and the server; nothing else crosses a link.

Every message is a frozen dataclass of tensors and plain numbers. A method yields
messages and is resumed with messages, or with `LOST` where the link gave up.
"""

# B batch, T tokens, D hidden

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One client's round under a controller: its method, its cut, the LoRA ranks that learn, its codec.

    The first `rank` rows (A) and columns (B) of the head's LoRA are trained. `codec` is that of activations
    and gradients.
    """

    method: str
    cut: int
    rank: int
    codec: str = "none"


@dataclass(frozen=True, kw_only=True)
class Begin:
    """A client starts a round of `steps` further messages.

    `version` is the aggregation that its adapters are from, `aligned_round` the round in which its auxiliary
    was last aligned. `flops_per_s` is its measured speed, where that is measured. `is_finite` is False for a
    client whose own state holds NaN or infinity.
    """

    steps: int
    version: int = 0
    aligned_round: int = 0
    flops_per_s: float | None = None
    is_finite: bool = True


@dataclass(frozen=True, kw_only=True)
class NotSelected:
    """A client takes no part in this round."""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A client drops a step that it had announced."""


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A client leaves for so many rounds, from this one on."""

    rounds: int = 0


@dataclass(frozen=True, kw_only=True)
class Join:
    """A client asks with which round it starts or resumes.

    `checkpoints` are those it could restore: (the round after which it was written, the last round that the
    client had completed by then). `is_invited` if the server's reply made it ask.
    """

    checkpoints: tuple[tuple[int, int], ...] = ()
    is_invited: bool = False


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The server's answer: the round with which the client starts or resumes."""

    round: int


@dataclass(frozen=True, kw_only=True)
class Leave:
    """A client has completed the run; its peak and initial resident memory, in bytes, where measured."""

    peak_bytes: int | None = None
    base_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """An acknowledgement; to a `Begin` under a controller, with the plan of the round."""

    plan: Plan | None = None


@dataclass(frozen=True, kw_only=True)
class RunOver:
    """The server's answer to a `Begin` after the last round of the run."""


Control = Begin | NotSelected | Skip | Absent | Join | Joined | Leave | Done | RunOver
"""Messages without tensors; the ledger and the report count them as one kind."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Activation:
    """The hidden state at the cut, for the server to carry on from.

    `ids_B` name the samples (int64). `hidden` is (B, T, D), or None where the server
    holds these samples already. `context` says which tokens are real, never which
    tokens they are. `labels` is (B,) for classification, (B, T) for language models.
    """

    ids_B: Tensor
    hidden: Tensor | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """The hidden state above the server's blocks, for the client to carry on from."""

    ids_B: Tensor
    hidden: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradient:
    """The loss's gradient with respect to the hidden state of the same samples.

    `loss` is the loss itself where it is the client that computed it, else None.
    """

    ids_B: Tensor
    grad: Tensor
    loss: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scalars:
    """Numbers that stand for an update, for whoever draws the same directions from their names.

    `values` is float32 with one row a step, from round `round` on. `steps` says how many
    of the rows are each client's: round by round, the clients in order; one number where
    they are all the sender's. `samples` and `losses` are as an `Adapter`'s.
    """

    round: int
    values: Tensor
    steps: tuple[int, ...]
    samples: int = 0
    losses: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """Trainable tensors by their names in the unsplit model, and whose work they are.

    A client's auxiliary, which is no part of that model, has names that begin with `auxiliary.`.
    `version` counts aggregations. `samples` weighs an upload in the mean; `losses` are
    the client's own training losses where it computed them itself. `plan` is as a `Done`'s.
    """

    version: int
    tensors: Mapping[str, Tensor]
    samples: int = 0
    losses: tuple[float, ...] = ()
    plan: Plan | None = None


Message = Control | Activation | Output | Gradient | Scalars | Adapter


class Lost:
    """The type of `LOST`."""

    def __repr__(self) -> str:
        return "LOST"


LOST: Final = Lost()
"""What a method is resumed with when its message or the answer never arrived."""

Reply = Message | Lost
