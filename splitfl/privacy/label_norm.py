"""Labels by the norm of gradients: samples of a rare class have larger ones.

Li et al., ICLR 2022.
"""

from splitfl.privacy.guess import ScoreGuess
from splitfl.privacy.label_gradients import MARVELL, gradients_of
from splitfl.privacy.spec import AttackSpec, Evidence


def attack(evidence: Evidence) -> ScoreGuess:
    """The norm of each sample's gradient as the score of the rarest class."""
    return ScoreGuess(scores_SC=gradients_of(evidence.samples).norm(dim=-1, keepdim=True))


SPEC = AttackSpec(
    about="labels: the norm of each sample's gradient",
    bibtex=(MARVELL,),
    recovers="labels",
    reads="gradient",
    knows="nothing but the gradients",
    attack=attack,
)
