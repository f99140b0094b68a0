"""LoHa (FedPara, Hyeon-Woo et al., ICLR'22): a module's change is (W1a W1b) * (W2a W2b), number by number.

Four factors, of which W2b begins at zero. In each alone the change is linear, so a mean
over clients is exact where they differ in one of them and hold the other three in common.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from splitfl.adapters.residuals import compressed

W1A, W1B, W2A, W2B = ".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"
FACTORS: Final = (W1A, W1B, W2A, W2B)


def rank_of_layer(layer: nn.Module) -> int | None:
    """The rank of a module with LoHa; None for any other."""
    held = getattr(layer, "hada_w1_b", None)
    return len(held["default"]) if isinstance(held, nn.ParameterDict) else None


def as_factors(tensors: Mapping[str, Tensor], module: str) -> tuple[Tensor, Tensor]:
    """The two factors of the LoRA that this module's LoHa is, of its rank squared or of full rank."""
    w1a, w1b, w2a, w2b = (tensors[module + factor] for factor in FACTORS)
    first = (w1b[:, None] * w2b[None]).flatten(0, 1)
    second = (w1a[:, :, None] * w2a[:, None]).flatten(1, 2)
    if len(first) > min(first.shape[1], len(second)):
        return compressed(first, second)
    return first, second
