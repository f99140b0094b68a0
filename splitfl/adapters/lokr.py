"""LoKr (LyCORIS, Yeh et al., ICLR'24): a module's update is alpha / rank times W1 (x) W2a W2b (Kronecker).

W1 (p, q) and W2 (out / p, in / q), where peft chooses p and q nearest to a square. W1 is initialised to zero.
The update is linear in each factor, so a mean over clients is exact if they differ in one of them.
"""

from collections.abc import Mapping
from typing import Final

import torch
from peft import LoKrConfig, inject_adapter_in_model
from torch import Tensor, nn

from splitfl.adapters.kind import DEFAULT, AdapterKind, Factor, LowRank, constant, kaiming
from splitfl.adapters.residuals import at_most_full_rank
from splitfl.config import SideConfig
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.quantised import num_weights

W1, W2A, W2B = ".lokr_w1", ".lokr_w2_a", ".lokr_w2_b"
FACTORS: Final = (W1, W2A, W2B)


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    """Raises ConfigError for a rank at which W2 has no fewer numbers as a product: peft trains W2 itself."""
    scale = side.of(LowRank).scale
    settings = LoKrConfig(
        target_modules=sorted(ranks),
        rank_pattern=dict(ranks),
        alpha_pattern={name: scale * rank for name, rank in ranks.items()},
        init_weights=True,
    )
    inject_adapter_in_model(settings, piece.model)
    for name, rank in ranks.items():
        layer = piece.model.get_submodule(name)
        if f"{W2A[1:]}.{DEFAULT}" not in dict(layer.named_parameters()):
            most = max(layer.get_parameter(f"{W1[1:].replace('1', '2')}.{DEFAULT}").shape) / 2
            raise ConfigError(f"the rank of a lokr adapter of {name} must be below {most:g}, got {rank}")


def _flops(layer: nn.Module, rows: int, flows_in: bool) -> tuple[int, int]:
    """W2a W2b and the product with the update, whose Kronecker product has a multiplication per number."""
    weight = num_weights(layer.get_submodule("base_layer"))
    w2a, w2b = (layer.get_parameter(f"{end[1:]}.{DEFAULT}") for end in (W2A, W2B))
    product, by = 2 * w2a.numel() * w2b.shape[1], 2 * rows * weight
    return product + by, 2 * product + by * (1 + int(flows_in))


def as_lora(layer: nn.Module, trained: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """W1 (x) W2a W2b = (W1 (x) W2a) (I (x) W2b): of rank q r, or compressed to full rank."""
    w1, w2a, w2b = (trained[factor] for factor in FACTORS)
    first = torch.kron(torch.eye(w1.shape[1]), w2b)
    second = torch.kron(w1, w2a)
    return at_most_full_rank(first, second)


LOKR = AdapterKind(
    title="LoKr",
    settings=LowRank,
    factors={
        **{ending: Factor("first", kaiming("lokr")) for ending in (W2A, W2B)},
        W1: Factor("second", constant(0.0)),
    },
    inject=_inject,
    flops=_flops,
    as_lora=as_lora,
    transposed="peft's LoKr is of linear modules only",
    citation="""@inproceedings{yeh2024navigating,
  title = {Navigating Text-To-Image Customization: From {LyCORIS} Fine-Tuning to Model Evaluation},
  author = {Yeh, Shih-Ying and Hsieh, Yu-Guan and Gao, Zhidong and Yang, Bernard B W and Oh, Giyeong and
    Gong, Yanmin},
  booktitle = {International Conference on Learning Representations},
  year = {2024}
}""",
)
