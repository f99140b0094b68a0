"""The loss of a batch through all pieces of a model, and its equality with the unsplit model's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from splitfl.adapters.inject import trainable
from splitfl.models.cut import Piece
from tests.splitfl import tiny


def loss(pieces: Sequence[Piece], kind: str) -> Tensor:
    """The loss of `tiny.batch`, passed through the pieces in their order."""
    inputs, labels = tiny.batch(kind)
    context = pieces[0].context_of(inputs)
    state: Tensor | dict[str, Tensor] = inputs
    for piece in pieces[:-1]:
        state = piece(state, context)
    found = pieces[-1](state, context, labels).loss
    assert isinstance(found, Tensor)
    return found


def assert_exact(pieces: Sequence[Piece], whole: Piece, kind: str) -> None:
    """The pieces have the loss of the unsplit model and all its gradients, bit for bit."""
    split, unsplit = loss(pieces, kind), loss([whole], kind)
    assert torch.equal(split, unsplit)
    split.backward()
    unsplit.backward()
    expected = trainable(whole)
    for piece in pieces:
        for name, value in trainable(piece).items():
            grad = expected[name].grad
            assert value.grad is not None
            assert grad is not None
            assert torch.equal(value.grad, grad), name
