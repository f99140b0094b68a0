"""Activations as differences from earlier rows of the same sample, which both ends hold.

AQ-SGD (Wang et al., arXiv:2206.01299) sends what changed in a sample's activation since it was last sent.
Both ends add the decoded difference to the same reference, so that errors of rounding do not add up.

A sender continues from a sample's new rows once their message was answered, and from the older ones if it was
not. So the receiver keeps the last two reconstructions of each sample, in slots 0 and 1: a message is
written to one slot, its reference is in the other, and is overwritten only when the sender no longer needs it
(the alternating bit of Bartlett, Scantlebury & Wilkinson, CACM 12(5), 1969). With the slot a message has a
digest of its reference: a receiver that was restored, or whose sender was, never adds to other rows, but
replies `UnknownReference`, and the sender forgets its own.

References are kept as 8-bit integers with one float32 scale for each row, on both ends: what that rounds off
is part of the next difference.
"""

# B batch, N rows of all samples of a message, n rows of one sample, D hidden

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from splitfl.config import CodecConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import LOST, Activation, Lost, Message, Reply, UnknownReference
from splitfl.core.state import State
from splitfl.wire.codec_meter import CodecMeter
from splitfl.wire.codecs.chain import keyed_of
from splitfl.wire.frame import Envelope, Frame, encode
from splitfl.wire.reference_rows import Key, Reference, joined, packed, split, unpacked

log = logging.getLogger(__name__)

_SLOT: Final = 1
_WHOLE: Final = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sent:
    """A sample's rows as sent, the slot that they are written to, and their age.

    That is the number of the sample's messages since its rows were sent whole.
    """

    reference: Reference
    slot: int
    age: int


class SentReferences:
    """The sender's side: the rows of each sample in the last activation with it that was answered."""

    def __init__(self) -> None:
        self._answered: dict[int, _Sent] = {}
        self._pending: dict[int, _Sent] = {}

    @property
    def nbytes(self) -> int:
        """The memory of the references."""
        return sum(sent.reference.nbytes for sent in self._answered.values())

    def encode(
        self, message: Message, envelope: Envelope, codec: CodecConfig, meter: CodecMeter | None = None
    ) -> bytes:
        """The frame of a message, which `meter` measures: of differences under a keyed codec."""
        self._pending = {}
        keyed, _ = keyed_of(codec.activation)
        if keyed is None or not isinstance(message, Activation) or message.hidden is None:
            if meter:
                meter.message(message, codec)
            return encode(message, envelope, codec)
        samples, counts, width = message.ids_B.tolist(), _counts(message), message.hidden.shape[-1]
        references, slots, ages = zip(
            *(self._next(*one, width, keyed.every) for one in zip(samples, counts, strict=True)), strict=True
        )
        differences = _differences(message, references, slots, counts)
        if meter:
            meter.message(differences, codec, message.hidden)
        frame = encode(differences, envelope, codec)
        decoded = Frame(frame).message()
        assert isinstance(decoded, Activation)
        kept = split(_sums(decoded, references, counts), counts)
        self._pending = {
            sample: _Sent(reference=reference, slot=slot, age=age)
            for sample, reference, slot, age in zip(samples, kept, slots, ages, strict=True)
        }
        return frame

    def answered(self, reply: Reply) -> Reply:
        """The reply to the last frame, as the method is to receive it: LOST for `UnknownReference`."""
        pending, self._pending = self._pending, {}
        if isinstance(reply, UnknownReference):
            for sample in pending:
                self._answered.pop(sample, None)
            return LOST
        if not isinstance(reply, Lost):
            self._answered |= pending
        return reply

    def state(self) -> State:
        """All references; see Stateful."""
        return packed(
            {(sample, sent.slot, sent.age): sent.reference for sample, sent in self._answered.items()}
        )

    def restore(self, state: State) -> None:
        """See Stateful; without any tensors, every sample's next rows are sent whole."""
        self._pending = {}
        self._answered = {
            sample: _Sent(reference=reference, slot=slot, age=age)
            for (sample, slot, age), reference in unpacked(state).items()
        }

    def _next(self, sample: int, count: int, width: int, every: int) -> tuple[Reference | None, int, int]:
        """The reference of a sample's next rows, None for whole ones; their slot; their age."""
        last = self._answered.get(sample)
        if last is None:
            return None, 0, 0
        if last.reference.codes_nD.shape != (count, width) or (every and last.age + 1 >= every):
            return None, 1 - last.slot, 0
        return last.reference, 1 - last.slot, last.age + 1


class ReceivedReferences:
    """The receiver's side: the last two reconstructions of each client's samples."""

    def __init__(self) -> None:
        self._slots: dict[Key, Reference] = {}  # by client, sample and slot

    def received(self, client: int, message: Activation) -> Activation | None:
        """The activation of a message of differences; None if one of its references is not held.

        Raises WireError for numbers of samples, references and rows that do not fit each other.
        """
        counts, names = _counts(message), _names(message)
        assert message.hidden is not None
        samples, width = message.ids_B.tolist(), message.hidden.shape[-1]
        references: list[Reference | None] = []
        for sample, (slot, digest), count in zip(samples, names, counts, strict=True):
            held = self._slots.get((client, sample, 1 - slot)) if digest is not None else None
            is_meant = held is not None and (held.digest, held.codes_nD.shape) == (digest, (count, width))
            if digest is not None and not is_meant:
                log.warning("client %d, sample %d: unknown reference, step lost", client, sample)
                return None
            references.append(held)
        rows_ND = _sums(message, references, counts)
        for sample, (slot, _), reference in zip(samples, names, split(rows_ND, counts), strict=True):
            self._slots[client, sample, slot] = reference
        return replace(message, hidden=rows_ND.reshape(message.hidden.shape), reference_B=None)

    def state(self) -> State:
        """All references; see Stateful."""
        return packed(self._slots)

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._slots = unpacked(state)


def _counts(message: Activation) -> list[int]:
    """The number of rows of each sample; raises WireError if they are not those of the message."""
    hidden, mask_BT, ids_B = message.hidden, message.context.get("mask"), message.ids_B
    samples = ids_B.numel()
    if hidden is None or hidden.ndim < 2 or ids_B.ndim != 1 or ids_B.dtype != torch.int64 or not samples:
        raise WireError("an activation with references must have rows, and int64 sample numbers of one axis")
    num_rows = hidden.shape[:-1].numel()
    if mask_BT is not None:
        counts = mask_BT.bool().sum(1).tolist() if mask_BT.ndim == 2 else []
    else:
        counts = [num_rows // samples] * samples
    if len(counts) != samples or sum(counts) != num_rows:
        raise WireError(
            f"an activation of {samples} samples has {num_rows} rows, must have "
            f"{f'{sum(counts)} by its mask' if mask_BT is not None else 'equally many of each'}"
        )
    return counts


def _names(message: Activation) -> list[tuple[int, int | None]]:
    """For each sample the slot that it is written to, and its reference's digest, None for whole rows."""
    names_B = message.reference_B
    assert names_B is not None
    if names_B.dtype != torch.int64 or names_B.shape != message.ids_B.shape:
        raise WireError(
            f"{len(message.ids_B)} samples must have as many references of type torch.int64, got "
            f"{names_B.dtype} {[*names_B.shape]}"
        )
    names = names_B.tolist()
    if bad := [name for name in names if name < 0 or (name & _WHOLE and name > _WHOLE | _SLOT)]:
        raise WireError(f"a reference must be a slot with the digest of rows or 2 or 3, got {bad[0]}")
    return [(name & _SLOT, None if name & _WHOLE else name >> 2) for name in names]


def _differences(
    message: Activation, references: Sequence[Reference | None], slots: Sequence[int], counts: Sequence[int]
) -> Activation:
    """The message with its rows less their references, which it names."""
    assert message.hidden is not None
    hidden = message.hidden.detach().cpu()
    base_ND = joined(references, counts, hidden.shape[-1])
    names = [
        slot | (_WHOLE if reference is None else reference.digest << 2)
        for reference, slot in zip(references, slots, strict=True)
    ]
    difference = hidden.to(torch.float32) - base_ND.reshape(hidden.shape)
    return replace(message, hidden=difference.to(hidden.dtype), reference_B=torch.tensor(names))


def _sums(message: Activation, references: Sequence[Reference | None], counts: Sequence[int]) -> Tensor:
    """(N, D) the references plus the differences of a decoded message, in the type of its rows."""
    assert message.hidden is not None
    difference_ND = message.hidden.reshape(-1, message.hidden.shape[-1])
    base_ND = joined(references, counts, difference_ND.shape[-1])
    return (base_ND + difference_ND.to(torch.float32)).to(difference_ND.dtype)
