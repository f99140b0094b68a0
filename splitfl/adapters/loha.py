"""LoHa (FedPara, Hyeon-Woo et al., ICLR'22): a module's update is (W1a W1b) * (W2a W2b), elementwise.

Of its four factors, W2b is initialised to zero. The update is linear in each factor, so a mean
over clients is exact if they differ in one factor and share the other three.
"""

from collections.abc import Mapping
from typing import Final

from peft import LoHaConfig, inject_adapter_in_model
from torch import Tensor, nn

from splitfl.adapters.kind import DEFAULT, AdapterKind, Factor, LowRank, constant, kaiming
from splitfl.adapters.residuals import at_most_full_rank
from splitfl.config import SideConfig
from splitfl.models.cut import Piece
from splitfl.models.quantised import num_weights

W1A, W1B, W2A, W2B = ".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"
FACTORS: Final = (W1A, W1B, W2A, W2B)


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    own = side.of(LowRank)
    settings = LoHaConfig(
        target_modules=sorted(ranks),
        rank_pattern=dict(ranks),
        alpha_pattern={name: own.scale * rank for name, rank in ranks.items()},
        init_weights=True,
    )
    inject_adapter_in_model(settings, piece.model)


def _flops(layer: nn.Module, rows: int, flows_in: bool) -> tuple[int, int]:
    """The two products that form the weight, and the product with it."""
    weight = num_weights(layer.get_submodule("base_layer"))
    rank = len(layer.get_parameter(f"{W1B[1:]}.{DEFAULT}"))
    products, by = 4 * rank * weight, 2 * rows * weight
    return products + by, 3 * products + by * (1 + int(flows_in))


def as_lora(layer: nn.Module, trained: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """All pairwise products of columns and of rows: of the squared rank, or compressed to full rank."""
    w1a, w1b, w2a, w2b = (trained[factor] for factor in FACTORS)
    first = (w1b[:, None] * w2b[None]).flatten(0, 1)
    second = (w1a[:, :, None] * w2a[:, None]).flatten(1, 2)
    return at_most_full_rank(first, second)


LOHA = AdapterKind(
    title="LoHa",
    settings=LowRank,
    factors={
        **{ending: Factor("first", kaiming("loha")) for ending in (W1A, W1B, W2A)},
        W2B: Factor("second", constant(0.0)),
    },
    inject=_inject,
    flops=_flops,
    as_lora=as_lora,
    forward_mode="peft's LoHa has a derivative in backward mode only",
    transposed="peft's LoHa is of linear modules only",
    citation="""@inproceedings{hyeonwoo2022fedpara,
  title = {{FedPara}: Low-Rank {Hadamard} Product for Communication-Efficient Federated Learning},
  author = {Hyeon-Woo, Nam and Ye-Bin, Moon and Oh, Tae-Hyun},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}""",
)
