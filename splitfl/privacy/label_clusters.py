"""Labels by clustering: k-means on the directions of gradients, with as many clusters as classes."""

import warnings

import torch
from scipy.cluster.vq import kmeans2  # type: ignore[import-untyped]

from channel.core.rng import stream
from splitfl.privacy.guess import ClusterGuess
from splitfl.privacy.label_gradients import MARVELL, directions_of
from splitfl.privacy.spec import AttackSpec, Evidence


def attack(evidence: Evidence) -> ClusterGuess:
    """The cluster of each sample."""
    directions = directions_of(evidence.samples).double().numpy()
    rng, clusters = stream(evidence.seed, "label-clusters"), min(evidence.num_classes, len(directions))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "One of the clusters is empty"
        )  # fewer distinct points than classes
        _, found = kmeans2(directions, clusters, minit="++", seed=rng)
    return ClusterGuess(clusters_S=torch.from_numpy(found).long())


SPEC = AttackSpec(
    about="labels: clusters of the directions of gradients",
    bibtex=(MARVELL,),
    recovers="labels",
    reads="gradient",
    knows="the number of classes; each cluster is counted as the class that fits best",
    attack=attack,
)
