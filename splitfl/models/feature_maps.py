"""Feature maps at the cut, sent as hidden states whose tokens are the positions of the map.

A block of such a model outputs (B, C, H, W), or (B, C) after the last convolution; it is sent
as (B, H W, C), or (B, 1, C). Feature maps are square.
"""

# B batch, C channels, H height, W width, T = H W positions

import math

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.resnet.modeling_resnet import ResNetConvLayer

from splitfl.core.errors import CutError


def as_tokens(hidden: Tensor, *, channels_last: bool = False) -> Tensor:
    """(B, T, C) from (B, C, H, W) or (B, C); gradients are laid out as those of the unsplit model."""
    if hidden.requires_grad and hidden.ndim > 2 and not channels_last:
        # Another memory layout in the backward pass would change the last bits.
        hidden.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
    return hidden.flatten(2).transpose(1, 2).contiguous() if hidden.ndim > 2 else hidden[:, None]


def as_feature_map(hidden_BTC: Tensor) -> Tensor:
    """(B, C, H, W) from (B, T, C); linear blocks accept (B, C, 1, 1). Raises CutError if T is no square."""
    side = math.isqrt(hidden_BTC.shape[1])
    if side**2 != hidden_BTC.shape[1]:
        raise CutError(f"a hidden state of {hidden_BTC.shape[1]} positions is not a square feature map")
    return hidden_BTC.transpose(1, 2).contiguous().view(len(hidden_BTC), -1, side, side)


def check_dtype(model_type: str, dtype: str) -> None:
    """Raises CutError unless the dtype is that of pixels."""
    if dtype != "float32":
        raise CutError(
            f"a {model_type} model takes pixels of its own dtype: set model.dtype to 'float32', got {dtype!r}"
        )


def places(config: PretrainedConfig, blocks: int) -> tuple[int, int]:
    """T and C of the hidden state after `blocks` blocks."""
    if config.model_type == "small_net":
        convolutions = min(blocks, len(config.channels))
        side = config.image_size // 2**convolutions
        channels = [config.num_channels, *config.channels, *config.widths][blocks]
        return (side**2 if blocks <= len(config.channels) else 1), channels
    if config.model_type == "swin":  # every stage but the last merges patches
        merged = min(blocks, len(config.depths) - 1)
        side = -(-config.image_size // config.patch_size)
        for _ in range(merged):
            side = (side + 1) // 2
        return side**2, config.embed_dim * 2**merged
    if config.model_type != "resnet":  # ConvNeXt
        side = config.image_size // config.patch_size // 2 ** (blocks - 1)
        return side**2, config.hidden_sizes[blocks - 1]
    side = config.image_size
    halvings = blocks - 1 + bool(config.downsample_in_first_stage)
    for _ in range(halvings if stem_of(config) == "cifar" else halvings + 2):
        side = (side + 1) // 2
    return side**2, config.hidden_sizes[blocks - 1]


def stem_of(config: PretrainedConfig) -> str:
    """The stem of a ResNet, `imagenet` or `cifar`. Raises CutError for any other."""
    stem = getattr(config, "stem", "imagenet")
    if stem not in ("imagenet", "cifar"):
        raise CutError(f"the stem of a ResNet must be imagenet or cifar, got {stem!r} in its configuration")
    assert isinstance(stem, str)
    return stem


def shortened(config: PretrainedConfig, blocks: int) -> None:
    """Truncates a configuration in place to its first blocks; the classifier follows the last of them."""
    if config.model_type == "small_net":
        config.widths = config.widths[: max(0, blocks - len(config.channels))]
        config.channels = config.channels[:blocks]
        config.num_hidden_layers = blocks
    else:
        # stage_names is validated against depths, so both change.
        config.stage_names = ["stem", *(f"stage{at}" for at in range(1, blocks + 1))]
        for name in ("depths", "hidden_sizes", "num_heads"):  # of Swin one a stage
            if hasattr(config, name):
                setattr(config, name, getattr(config, name)[:blocks])
        config.num_stages = blocks


def put_cifar_stem(model: PreTrainedModel) -> None:
    """3x3 at stride 1 without pooling, not 7x7 at stride 2 with it (see splitfl.models.untrained)."""
    stem, config = model.base_model.get_submodule("embedder"), model.config
    stem.embedder = ResNetConvLayer(
        config.num_channels, config.embedding_size, kernel_size=3, activation=config.hidden_act
    ).to(model.dtype)
    stem.pooler = nn.Identity()
