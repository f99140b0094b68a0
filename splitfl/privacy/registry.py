"""The attacks by name, with those of other packages."""

from typing import Final

from splitfl.core.registry import Registry
from splitfl.privacy import (
    exact,
    label_candidates,
    label_clusters,
    label_cosine,
    label_norm,
    linear,
    nearest,
    optimised,
)
from splitfl.privacy.spec import AttackSpec

ATTACKS: Final = Registry(
    "splitfl.probes",
    AttackSpec,
    {
        "nearest": nearest.SPEC,
        "linear": linear.SPEC,
        "exact": exact.SPEC,
        "optimised": optimised.SPEC,
        "label-norm": label_norm.SPEC,
        "label-cosine": label_cosine.SPEC,
        "label-candidates": label_candidates.SPEC,
        "label-clusters": label_clusters.SPEC,
    },
)
