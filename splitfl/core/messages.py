"""What may travel between a client and the server; nothing else crosses a link.

Every message is a frozen dataclass of tensors and plain numbers. A method yields
messages and is resumed with messages, or with `LOST` where the link gave up.
"""

# B batch, T tokens, D hidden

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """Asks for, or acknowledges, something that carries no tensors.

    `ask` is one of `begin` (a client enters round `round` and says how many steps it
    will make), `skip` (a client gives up a step that it had announced), `done` (an
    acknowledgement), `leave` (a client has finished), `join` (a client asks, and is told, with
    which round it goes on; it says after which it was kept), `pass` (a client is not
    selected for round `round`), `away` (a client leaves for `steps` rounds, from `round` on) and `over` (a
    client that begins is told that the run has had its last round).
    """

    ask: str
    round: int
    steps: int = 0
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Activation:
    """The hidden state at the cut, for the server to carry on from.

    `ids_B` name the samples (int64). `hidden` is (B, T, D), or None where the server
    holds these samples already. `context` says which tokens are real, never which
    tokens they are. `labels` is (B,) for classification, (B, T) for language models.
    """

    ids_B: Tensor
    hidden: Tensor | None
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
    the client's own training losses where it computed them itself. `values` are as a `Control`'s.
    """

    version: int
    tensors: Mapping[str, Tensor]
    samples: int = 0
    losses: tuple[float, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)


Message = Control | Activation | Output | Gradient | Scalars | Adapter


class Lost:
    """The type of `LOST`."""

    def __repr__(self) -> str:
        return "LOST"


LOST: Final = Lost()
"""What a method is resumed with when its message or the answer never arrived."""

Reply = Message | Lost
