"""Nearest neighbour at the cut: the token whose hidden state, as the only token of a text, is nearest.

Inversion of hidden states as in Song and Raghunathan, CCS 2020, without training: the attacker runs the head,
which it knows, on every token of the vocabulary by itself. Attention to other tokens and positions are
ignored.
"""

# V vocabulary, D hidden

import torch
from torch import Tensor

from splitfl.models.cut import Piece
from splitfl.privacy.embedding import by_sample, embedding_of, hidden_rows, nearest_rows
from splitfl.privacy.guess import TokenGuess
from splitfl.privacy.spec import AttackSpec, Evidence

_BATCH = 2048


def attack(evidence: Evidence) -> TokenGuess:
    """The nearest token at each place."""
    head = evidence.head
    rows = hidden_rows(evidence.samples, head.model.device)
    tokens = nearest_rows(rows, hidden_of_each_token(head))[:, 0]
    return TokenGuess(tokens=by_sample(tokens, evidence.samples))


def hidden_of_each_token(head: Piece) -> Tensor:
    """The hidden states (V, D) at the cut of every token as the only one of a text."""
    device = head.model.device
    ids_V1 = torch.arange(len(embedding_of(head)), device=device)[:, None]
    with torch.no_grad():
        parts = [
            head({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[:, 0].float()
            for ids in torch.split(ids_V1, _BATCH)
        ]
    return torch.cat(parts)


SONG = """@inproceedings{song2020information,
  title = {Information Leakage in Embedding Models},
  author = {Song, Congzheng and Raghunathan, Ananth},
  booktitle = {ACM Conference on Computer and Communications Security},
  year = {2020}
}"""

SPEC = AttackSpec(
    about="tokens: the nearest hidden state of a single token",
    bibtex=(SONG,),
    recovers="tokens",
    reads="activation",
    knows="the head",
    attack=attack,
)
