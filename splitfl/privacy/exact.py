"""Exact inversion of a causal head, token by token.

Nikolaou et al., arXiv 2510.15511 (SipIt): the hidden state at a place depends on the tokens up to it, and for
almost all weights no two prefixes have the same. Given the tokens before a place, the one there is found by
running the head on candidates. As the head is causal, one pass checks a whole sequence: the linear
inverter's answer is accepted up to its first token with a residual, which alone is searched for. Candidates
come from the linear inverter, four times as many each time while the residual stays large. With noise, or
with a head that has moved on, no residual is small: the first token is then the best of all candidates, and
others are accepted up to 1.5 times the largest residual accepted so far.
"""

# T tokens, C candidates, D hidden

from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.config import at_least
from splitfl.models.cut import Piece
from splitfl.models.family import CAUSAL_LM, Family
from splitfl.privacy.embedding import by_sample, embedding_of
from splitfl.privacy.guess import TokenGuess
from splitfl.privacy.linear import candidates
from splitfl.privacy.observation import ObservedSample
from splitfl.privacy.spec import AttackSpec, Evidence

TOLERANCE = 1e-3
"""The residual, relative to the hidden state's norm, up to which a token is accepted."""
_MARGIN = 1.5
"""How much larger a residual may be than those accepted before."""
_SHORTLIST = 16
_BATCH_TOKENS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class ExactSettings:
    """`exact` tries at most `most_candidates` tokens at a place, the likeliest by the linear inverter."""

    most_candidates: int = 1024

    def __post_init__(self) -> None:
        at_least("privacy.most_candidates", self.most_candidates, 1)


def attack(evidence: Evidence) -> TokenGuess:
    """The tokens of each sample up to its first missing place; -1 from there on."""
    head = evidence.head
    most = min(evidence.settings.of(ExactSettings).most_candidates, len(embedding_of(head)))
    ranked = by_sample(candidates(evidence, most), evidence.samples)
    found = [
        _Search(head, sample, ranked_TC.to(head.model.device)).run()
        for sample, ranked_TC in zip(evidence.samples, ranked, strict=True)
    ]
    known = sum(int((tokens >= 0).sum()) for tokens, _, _ in found)
    facts = {
        "residual": max((worst for _, worst, _ in found), default=0.0),
        "candidates_per_token": sum(tried for _, _, tried in found) / max(1, known),
    }
    return TokenGuess(tokens=tuple(tokens for tokens, _, _ in found), facts=facts)


class _Search:
    """The search for one sample's tokens."""

    def __init__(self, head: Piece, sample: ObservedSample, ranked_TC: Tensor) -> None:
        self._head = head
        self._ranked = ranked_TC
        self._target = sample.hidden_TD.float().to(head.model.device)
        self._norm = self._target.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
        arrived = sample.places_T == torch.arange(len(sample.places_T))
        self._known = int(arrived.long().cumprod(0).sum())
        self._tried = 0
        self._tolerance = TOLERANCE

    @torch.no_grad()
    def run(self) -> tuple[Tensor, float, int]:
        """The tokens (T,), the largest relative residual of an accepted one, and the candidates tried."""
        tokens_T = self._ranked[: self._known, 0].clone()
        worst, done = 0.0, 0
        while done < self._known:
            residuals_T = self._residuals(tokens_T[None], range(done, self._known))[0]
            failing = (residuals_T > self._tolerance).nonzero()
            accepted = int(failing[0]) if len(failing) else len(residuals_T)
            worst = max([worst, *residuals_T[:accepted].tolist()])
            done += accepted
            if done < self._known:
                tokens_T[done], residual = self._best(tokens_T[:done], done)
                worst, done = max(worst, residual), done + 1
            self._tolerance = max(self._tolerance, _MARGIN * worst)
        missing = len(self._target) - self._known
        return torch.cat([tokens_T.cpu(), torch.full((missing,), -1)]), worst, self._tried

    def _best(self, prefix_T: Tensor, place: int) -> tuple[Tensor, float]:
        """The candidate with the least residual at this place, among ever more of them."""
        ranked_C, start, size = self._ranked[place], 0, _SHORTLIST
        best, least = ranked_C[0], float("inf")
        while start < len(ranked_C) and least > self._tolerance:
            tried_C = ranked_C[start:size]
            self._tried += len(tried_C)
            for some_C in torch.split(tried_C, max(1, _BATCH_TOKENS // (place + 1))):
                texts_CT = torch.cat([prefix_T.expand(len(some_C), -1), some_C[:, None]], dim=-1)
                residual, index = self._residuals(texts_CT, range(place, place + 1))[:, 0].min(0)
                if residual < least:
                    best, least = some_C[index], float(residual)
            start, size = size, 4 * size
        return best, least

    def _residuals(self, texts_CT: Tensor, places: range) -> Tensor:
        """(C, places): the distance to the observed hidden states, relative to their norm."""
        hidden_CTD = self._head({"input_ids": texts_CT, "attention_mask": torch.ones_like(texts_CT)})
        window = slice(places.start, places.stop)
        difference = hidden_CTD[:, window].float() - self._target[window]
        residuals: Tensor = difference.norm(dim=-1) / self._norm[window]
        return residuals


def _refuse(family: Family, kind: str) -> str:
    is_causal = kind == CAUSAL_LM or not (family.is_encoder or family.decoder)
    return "" if is_causal else "needs a causal head, and in an encoder tokens attend to those after them"


SIPIT = """@article{nikolaou2025language,
  title = {Language Models are Injective and Hence Invertible},
  author = {Nikolaou, Giorgos and Mencattini, Tommaso and Crisostomi, Donato and Santilli, Andrea and
    Panagakis, Yannis and Rodol{\\`a}, Emanuele},
  journal = {arXiv preprint arXiv:2510.15511},
  year = {2025}
}"""

SPEC = AttackSpec(
    about="tokens: exact inversion of a causal head, token by token",
    bibtex=(SIPIT,),
    recovers="tokens",
    reads="activation",
    knows="the head, and held-out text of the same kind",
    attack=attack,
    settings=ExactSettings,
    refuse=_refuse,
)
