"""The messages between a client and the server.

Every message is a frozen dataclass of tensors and plain numbers. A method's generator yields
messages and is resumed with replies, or with `LOST` for a message that was not delivered.
"""

# B batch, T tokens, D hidden

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One client's round under a controller: method, cut, trained LoRA rank and codec.

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
    was last aligned. `flops_per_s` is its speed, if measured. `is_finite` is False for a
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
    """A client is absent for `rounds` rounds, from this one on."""

    rounds: int = 0


@dataclass(frozen=True, kw_only=True)
class Join:
    """A client requests the round with which it starts or resumes.

    `checkpoints` are those it could restore: (the round after which it was written, the last round that the
    client had completed by then). `is_invited` if the server's reply
    requested it.
    """

    checkpoints: tuple[tuple[int, int], ...] = ()
    is_invited: bool = False


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The server's reply: the round with which the client starts or resumes."""

    round: int


@dataclass(frozen=True, kw_only=True)
class CodecUse:
    """Sums over the measured messages of one kind, which a node encoded by one codec.

    `entropy_bits` is the order-0 entropy of all codes (None without integer codes), `error` the squared error
    of the decoded values and `power` the squares of the exact ones.
    """

    kind: str
    codec: str
    values: int
    coded_bytes: int
    entropy_bits: float | None
    error: float
    power: float
    encode_s: float
    decode_s: float


@dataclass(frozen=True, kw_only=True)
class Leave:
    """A client has completed the run; its peak and initial resident memory, in bytes, where measured.

    `codecs` are its measurements of what it encoded.
    """

    peak_bytes: int | None = None
    base_bytes: int | None = None
    codecs: tuple[CodecUse, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Done:
    """An acknowledgement; to a `Begin` under a controller, with the plan of the round.

    `first_batch` is as in `Adapter`.
    """

    plan: Plan | None = None
    first_batch: int = 0


@dataclass(frozen=True, kw_only=True)
class RunOver:
    """The server's reply to a `Begin` after the last round of the run."""


@dataclass(frozen=True, kw_only=True)
class UnknownReference:
    """The reply to an `Activation` of differences from rows that the server does not hold.

    The step is lost; the client must send the next rows of these samples whole.
    """


Control = Begin | NotSelected | Skip | Absent | Join | Joined | Leave | Done | RunOver | UnknownReference
"""Messages without tensors; the ledger and the report count them as one kind."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Activation:
    """The hidden state at the cut, the input of the server's blocks.

    `ids_B` name the samples (int64). `hidden` is (B, T, D), or None if the server
    has cached these samples. `context` has masks and positions, never token ids. `labels`
    is (B,) for classification, (B, T) for language models. With `reference_B` (int64) `hidden` holds
    differences from earlier rows of the same samples; see `splitfl.wire.keyed`.
    """

    ids_B: Tensor
    hidden: Tensor | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None
    reference_B: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """The hidden state above the server's blocks, the input of the client's tail."""

    ids_B: Tensor
    hidden: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradient:
    """The loss's gradient with respect to the hidden state of the same samples.

    `loss` is the loss if the client computed it, else None.
    """

    ids_B: Tensor
    grad: Tensor
    loss: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scalars:
    """An update as scalars, which a receiver replays along perturbations drawn from the same seeds.

    `values` is float32 with one row per step, from round `round` on. `steps` is the number of rows
    of each client: round by round, clients in order; one number if all are the sender's.
    `samples` and `losses` are as in `Adapter`.
    """

    round: int
    values: Tensor
    steps: tuple[int, ...]
    samples: int = 0
    losses: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """Trainable tensors by their names in the unsplit model.

    Names of a client's auxiliary network, which is not part of that model, begin with `auxiliary.`.
    `version` counts aggregations. `samples` is an upload's weight in the mean; `losses` are
    training losses that the client computed. `plan` is as in `Done`. In a reply to `Begin`, `first_batch` is
    the number of batches of the whole run that were handed out before, where the method counts them.
    """

    version: int
    tensors: Mapping[str, Tensor]
    samples: int = 0
    losses: tuple[float, ...] = ()
    plan: Plan | None = None
    first_batch: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterDelta:
    """An `Adapter` as encoded differences to the tensors that the client holds with version `base`.

    `which` is a bit mask (uint8) of the tensors sent, among those of the client in order of their names.
    `tensors` are the parts of their codec, `checksum` (1,) is the CRC-32 of the decoded tensors (int64).
    `first_batch` is as in `Adapter`.
    """

    version: int
    base: int
    which: Tensor
    checksum: Tensor
    tensors: Mapping[str, Tensor]
    samples: int = 0
    losses: tuple[float, ...] = ()
    first_batch: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightGradients:
    """The gradients of one data-parallel step, by the names of their tensors in the unsplit model.

    From a client they are those of its batch's mean loss over `labels` labels, in a reply the mean over the
    clients' labels. `version` is the number of steps that the sender's tensors have taken, in a reply that of
    these gradients included. A client that missed a step also receives `state`: the tensors and moments from
    before this step. `samples` and `losses` are as in `Adapter`.
    """

    version: int
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    labels: int = 0
    samples: int = 0
    losses: tuple[float, ...] = ()


Message = Control | Activation | Output | Gradient | Scalars | Adapter | AdapterDelta | WeightGradients


class Lost:
    """The type of `LOST`."""

    def __repr__(self) -> str:
        return "LOST"


LOST: Final = Lost()
"""The reply with which a method is resumed if its message or the reply was lost."""

Reply = Message | Lost
