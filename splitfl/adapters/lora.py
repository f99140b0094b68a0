"""LoRA (Hu et al., ICLR'22): a module's update is alpha / rank times B A."""

from collections.abc import Mapping

from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from splitfl.adapters.kind import AdapterKind, Factor, LowRank, constant, kaiming
from splitfl.adapters.residuals import A, B
from splitfl.config import SideConfig
from splitfl.models.cut import Piece


def lora_config(ranks: Mapping[str, int], alphas: Mapping[str, float], fan_in_fan_out: bool) -> LoraConfig:
    """A peft config with explicit module names; ranks and alphas that differ from the first are patterns."""
    names = sorted(ranks)
    rank, alpha = (ranks[names[0]], alphas[names[0]]) if names else (1, 1.0)
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft only ever divides it by the rank
        target_modules=names,
        rank_pattern={name: ranks[name] for name in names if ranks[name] != rank},
        alpha_pattern={name: alphas[name] for name in names if alphas[name] != alpha},
        fan_in_fan_out=fan_in_fan_out,
        lora_dropout=0.0,
        bias="none",
    )


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    own = side.of(LowRank)
    alphas = {name: own.alpha / own.rank * rank for name, rank in ranks.items()}
    inject_adapter_in_model(lora_config(ranks, alphas, piece.family.fan_in_fan_out), piece.model)


def _as_lora(layer: nn.Module, trained: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    return trained[A], trained[B]


LORA = AdapterKind(
    title="LoRA",
    settings=LowRank,
    factors={A: Factor("first", kaiming("lora")), B: Factor("second", constant(0.0))},
    inject=_inject,
    as_lora=_as_lora,
    citation="""@inproceedings{hu2022lora,
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and
    Wang, Shean and Wang, Lu and Chen, Weizhu},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}""",
)
