"""Inversion by optimisation, for heads that are not causal.

As UnSplit's inversion with known weights (Erdogan et al., WPES 2022), on tokens: each place has a
distribution over the linear inverter's candidates, whose mean embedding takes the token's place. Adam lowers
the distance of the hidden states to those observed while a temperature falls from 1 to 0.1; then each token
in turn is replaced by its best alternative while that lowers the distance.
"""

# T places of a text, C candidates, D hidden, E width of the embedding

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.config import at_least
from splitfl.models.cut import Piece
from splitfl.privacy.embedding import by_sample, embedding_of
from splitfl.privacy.guess import TokenGuess
from splitfl.privacy.label_candidates import UNSPLIT
from splitfl.privacy.linear import candidates
from splitfl.privacy.observation import ObservedSample
from splitfl.privacy.spec import AttackSpec, Evidence

_CANDIDATES = 256
_ALTERNATIVES = 8
_SWEEPS = 2
_COLDEST = 0.1
_RATE = 0.1
_ADVANTAGE = 2.0
"""How much likelier the linear inverter's best token is at first, as a logit."""


@dataclass(frozen=True, kw_only=True)
class OptimisedSettings:
    """`optimised` takes `optimised_steps` steps of Adam for each text."""

    optimised_steps: int = 300

    def __post_init__(self) -> None:
        at_least("privacy.optimised_steps", self.optimised_steps, 0)


def attack(evidence: Evidence) -> TokenGuess:
    """The tokens at the places that arrived; a missing token is left out of attention."""
    head, steps = evidence.head, evidence.settings.of(OptimisedSettings).optimised_steps
    count = min(_CANDIDATES, len(embedding_of(head)))
    ranked = by_sample(candidates(evidence, count), evidence.samples)
    found = [
        _Text(head, sample, ranked_TC.to(head.model.device)).inverted(steps)
        for sample, ranked_TC in zip(evidence.samples, ranked, strict=True)
    ]
    residual = max((float(distance) for _, distance in found), default=0.0)
    return TokenGuess(tokens=tuple(tokens.cpu() for tokens, _ in found), facts={"residual": residual})


class _Text:
    """One text: its observed hidden states and the candidates of each place, both in the places' order."""

    def __init__(self, head: Piece, sample: ObservedSample, ranked_TC: Tensor) -> None:
        self._head, self._ranked = head, ranked_TC
        device = head.model.device
        self._places = sample.places_T.to(device)
        self._target = sample.hidden_TD.float().to(device)
        width = int(self._places.max()) + 1
        self._mask = torch.zeros(width, dtype=torch.int64, device=device).index_fill(0, self._places, 1)

    def inverted(self, steps: int) -> tuple[Tensor, Tensor]:
        """The tokens (T,) and the distance of their hidden states, relative to the norm of those observed."""
        scores_TC = self._optimised(steps)
        best_TC = self._ranked.gather(1, scores_TC.argsort(-1, descending=True)[:, :_ALTERNATIVES])
        return self._improved(best_TC)

    def _optimised(self, steps: int) -> Tensor:
        """The scores (T, C) of the candidates."""
        embedded_TCE = embedding_of(self._head)[self._ranked]
        scores_TC = torch.zeros_like(self._ranked, dtype=torch.float32)
        scores_TC[:, 0] = _ADVANTAGE
        scores_TC.requires_grad_()
        optimiser = torch.optim.Adam([scores_TC], lr=_RATE)
        for step in range(steps):
            temperature = _COLDEST ** (step / max(1, steps - 1))
            soft_TE = ((scores_TC / temperature).softmax(-1)[..., None] * embedded_TCE).sum(1)
            distance = self._distances(self._ranked[None, :, 0], soft_TE)[0]
            (scores_TC.grad,) = torch.autograd.grad(distance, scores_TC)
            optimiser.step()
        return scores_TC.detach()

    @torch.no_grad()
    def _improved(self, best_TC: Tensor) -> tuple[Tensor, Tensor]:
        """The first tokens of `best_TC`, each replaced by the alternative of the least distance."""
        tokens_T = best_TC[:, 0].clone()
        least = self._distances(tokens_T[None])[0]
        for _ in range(_SWEEPS):
            for place, alternatives_C in enumerate(best_TC):
                texts_CT = tokens_T.repeat(len(alternatives_C), 1)
                texts_CT[:, place] = alternatives_C
                distance, index = self._distances(texts_CT).min(0)
                if distance < least:
                    tokens_T, least = texts_CT[index], distance
        return tokens_T, least

    def _distances(self, tokens_BT: Tensor, soft_TE: Tensor | None = None) -> Tensor:
        """(B,) relative distances of texts with these tokens, or with these embeddings in their place."""
        ids = self._mask.new_zeros(len(tokens_BT), len(self._mask))
        ids[:, self._places] = tokens_BT
        inputs = {"input_ids": ids, "attention_mask": self._mask.expand_as(ids)}
        with _embedded_as(self._head, self._places, soft_TE):
            hidden = self._head(inputs)[:, self._places].float()
        distances: Tensor = (hidden - self._target).flatten(1).norm(dim=-1) / self._target.norm()
        return distances


@contextmanager
def _embedded_as(head: Piece, places: Tensor, soft_TE: Tensor | None) -> Iterator[None]:
    """Replaces the token embeddings at these places within the context, if `soft_TE` is given."""
    if soft_TE is None:
        yield
        return

    def replaced(module: object, inputs: object, embedded: Tensor) -> Tensor:
        return embedded.index_copy(1, places, soft_TE[None].to(embedded.dtype))

    handle = head.base.get_input_embeddings().register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


SPEC = AttackSpec(
    about="tokens: optimisation of soft tokens, also for encoders",
    bibtex=(UNSPLIT,),
    recovers="tokens",
    reads="activation",
    knows="the head, and held-out text of the same kind",
    attack=attack,
    settings=OptimisedSettings,
)
