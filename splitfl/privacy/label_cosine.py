"""Labels by the direction of gradients: those of one class point in similar directions.

Li et al., ICLR 2022, with one known sample of each class.
"""

# S samples, C classes

import torch

from splitfl.privacy.guess import ScoreGuess
from splitfl.privacy.label_gradients import MARVELL, directions_of
from splitfl.privacy.spec import AttackSpec, Evidence


def attack(evidence: Evidence) -> ScoreGuess:
    """The cosine to the known sample of each class; -1 for a class without one."""
    directions_SD = directions_of(evidence.samples)
    scores_SC = torch.full((len(directions_SD), evidence.num_classes), -1.0)
    for index, label in evidence.known.items():
        scores_SC[:, label] = directions_SD @ directions_SD[index]
    return ScoreGuess(scores_SC=scores_SC)


SPEC = AttackSpec(
    about="labels: the cosine to the gradient of a known sample of each class",
    bibtex=(MARVELL,),
    recovers="labels",
    reads="gradient",
    knows="one sample's label of each class",
    attack=attack,
    needs_examples=True,
)
