"""Linear inverter: ridge regression from hidden states at the cut to embeddings, then the nearest token.

A learned inversion as in Song and Raghunathan, CCS 2020, with a linear map in closed form. It is fitted on
public text, run through the same head.
"""

# N public tokens, D hidden, E width of the embedding

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from splitfl.data.batch import Batch
from splitfl.models.cut import Piece
from splitfl.privacy.embedding import by_sample, embedding_of, hidden_rows, nearest_rows
from splitfl.privacy.guess import TokenGuess
from splitfl.privacy.nearest import SONG
from splitfl.privacy.spec import AttackSpec, Evidence

RIDGE = 1e-6
"""The penalty, relative to the mean square of the inputs."""


def attack(evidence: Evidence) -> TokenGuess:
    """The token nearest to the predicted embedding at each place."""
    tokens = candidates(evidence, count=1)[:, 0]
    return TokenGuess(tokens=by_sample(tokens, evidence.samples))


def candidates(evidence: Evidence, count: int) -> Tensor:
    """The `count` likeliest tokens (N, count) of each row of `hidden_rows`, likeliest first."""
    return nearest_rows(_predicted(evidence), embedding_of(evidence.head), count)


@lru_cache(maxsize=1)
def _predicted(evidence: Evidence) -> Tensor:
    """The embeddings (N, E) of each row of `hidden_rows`; several attacks read those of one evidence."""
    weights = fitted(*public_pairs(evidence.head, evidence.public))
    rows = hidden_rows(evidence.samples, evidence.head.model.device)
    return (_with_one(rows.double()) @ weights).float()


def public_pairs(head: Piece, public: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """The hidden states (N, D) and the embeddings (N, E) of all real tokens of these batches."""
    table, hidden, wanted = embedding_of(head), [], []
    with torch.no_grad():
        for batch in public:
            inputs = batch.to(head.model.device).inputs
            mask = head.context_of(inputs).get("mask", torch.ones_like(inputs["input_ids"], dtype=torch.bool))
            hidden.append(head(inputs)[mask].float())
            wanted.append(table[inputs["input_ids"][mask]])
    return torch.cat(hidden), torch.cat(wanted)


def fitted(hidden_ND: Tensor, wanted_NE: Tensor) -> Tensor:
    """The weights (D + 1, E) of the ridge regression with an intercept, float64."""
    inputs = _with_one(hidden_ND.double())
    gram = inputs.T @ inputs
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weights: Tensor = torch.linalg.solve(gram, inputs.T @ wanted_NE.double())
    return weights


def _with_one(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=-1)


SPEC = AttackSpec(
    about="tokens: ridge regression from hidden states to embeddings",
    bibtex=(SONG,),
    recovers="tokens",
    reads="activation",
    knows="the head, and held-out text of the same kind",
    attack=attack,
)
