"""OFT (Qiu et al., NeurIPS'23): a module's input is rotated by a trained block-diagonal matrix R.

The weight becomes W R. Each block of R is the Cayley transform of a skew-symmetric matrix of trained
parameters, as the first five terms of its Neumann series (Qiu et al., arXiv 2506.19847), peft's default. The
update has full rank, so it is exported as OFT, in a subfolder beside LoRA.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from peft import OFTConfig, inject_adapter_in_model
from torch import nn

from splitfl.adapters.kind import DEFAULT, AdapterKind, Factor, Targets, constant
from splitfl.config import SideConfig, at_least, group
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.quantised import num_weights

_ROTATION = ".oft_R.weight"
_OF_FOUR_DIMENSIONS = ".kv_b_proj"
"""The ends of linear modules that read (B, 1, T, rank), of DeepSeek's latent attention."""


@dataclass(frozen=True, kw_only=True)
class OftSettings:
    """Blocks of R have `block_size` inputs, which must divide those of every target."""

    block_size: int = 32
    modules: Targets = group(Targets)

    def __post_init__(self) -> None:
        at_least("adapter block_size", self.block_size, 2)


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    block_size = side.of(OftSettings).block_size
    for name in ranks:
        if name.endswith(_OF_FOUR_DIMENSIONS):
            raise ConfigError(
                f"adapter targets of kind 'oft' must leave out {name}, whose input has four dimensions, and "
                "which peft takes for a convolution"
            )
        inputs = getattr(piece.model.get_submodule(name), "in_features")  # noqa: B009  # of a linear module
        if inputs % block_size:
            raise ConfigError(
                f"adapter block_size must divide the {inputs} inputs of {name}, got {block_size}"
            )
    inject_adapter_in_model(_config(list(ranks), block_size), piece.model)


def _config(names: list[str], block_size: int) -> OFTConfig:
    return OFTConfig(r=0, oft_block_size=block_size, target_modules=sorted(names), use_cayley_neumann=True)


def _peft_config(layers: Mapping[str, nn.Module], fan_in_fan_out: bool) -> OFTConfig:
    """The config of the modules. Raises ConfigError for several block sizes, of which peft has one."""
    sizes = {layer.get_submodule(f"oft_R.{DEFAULT}").block_size for layer in layers.values()}
    if len(sizes) > 1:
        raise ConfigError(f"adapter block_size must be the same on both sides to be exported, got {sizes}")
    (block_size,) = sizes
    assert isinstance(block_size, int)
    return _config(list(layers), block_size)


def _flops(layer: nn.Module, rows: int, flows_in: bool) -> tuple[int, int]:
    """Three products of the blocks for R, and the rotation of the input, to which the gradient then flows."""
    base, rotation = layer.get_submodule("base_layer"), layer.get_submodule(f"oft_R.{DEFAULT}")
    inputs, block_size = base.in_features, rotation.block_size
    assert isinstance(inputs, int)
    assert isinstance(block_size, int)
    powers, rotates = 3 * 2 * inputs * block_size**2, 2 * rows * inputs * block_size
    through = 0 if flows_in else 2 * rows * num_weights(base)
    return powers + rotates, 2 * powers + rotates * (1 + int(flows_in)) + through


OFT = AdapterKind(
    title="OFT",
    settings=OftSettings,
    factors={_ROTATION: Factor("alone", constant(0.0))},
    inject=_inject,
    flops=_flops,
    peft_config=_peft_config,
    linear="the mean of the rotations' parameters is not that of the rotations",
    transposed="peft's OFT does not adapt a Conv1D",
    citation="""@inproceedings{qiu2023controlling,
  title = {Controlling Text-to-Image Diffusion by Orthogonal Finetuning},
  author = {Qiu, Zeju and Liu, Weiyang and Feng, Haiwen and Xue, Yuxuan and Feng, Yao and Liu, Zhen and
    Zhang, Dan and Weller, Adrian and Sch{\\"o}lkopf, Bernhard},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}""",
)
