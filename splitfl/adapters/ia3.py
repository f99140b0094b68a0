"""IA3 (Liu et al., NeurIPS'22): every output of a module is scaled by a trained number.

The update has full rank, so it is exported as IA3, in a subfolder beside LoRA.
"""

from collections.abc import Iterable, Mapping

from peft import IA3Config, inject_adapter_in_model
from torch import nn

from splitfl.adapters.kind import AdapterKind, Factor, Targets, constant
from splitfl.config import SideConfig
from splitfl.models.cut import Piece


def _config(names: Iterable[str], fan_in_fan_out: bool) -> IA3Config:
    return IA3Config(target_modules=list(names), feedforward_modules=[], fan_in_fan_out=fan_in_fan_out)


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    inject_adapter_in_model(_config(ranks, piece.family.fan_in_fan_out), piece.model)


def _flops(layer: nn.Module, rows: int, flows_in: bool) -> tuple[int, int]:
    """IA3 adds no matrix product."""
    return 0, 0


IA3 = AdapterKind(
    title="IA3",
    settings=Targets,
    factors={".ia3_l": Factor("alone", constant(1.0))},
    inject=_inject,
    flops=_flops,
    peft_config=_config,
    citation="""@inproceedings{liu2022few,
  title = {Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning},
  author = {Liu, Haokun and Tam, Derek and Muqeeth, Mohammed and Mohta, Jay and Huang, Tenghao and
    Bansal, Mohit and Raffel, Colin},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022}
}""",
)
