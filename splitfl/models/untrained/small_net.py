"""A small network for small images, with the interface of a transformers model.

Blocks of a convolution, ReLU and 2x2 max pooling, then blocks of a linear layer and ReLU, then
a classifier. With channels (16, 32), kernel size 5 and no linear block it is DeComFL's network
for MNIST (Li et al., ICLR'25), with 28,938 parameters.
"""

# B batch, C channels, H height, W width

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithNoAttention, ImageClassifierOutputWithNoAttention


class SmallNetConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Channels of the convolutions, widths of the linear layers; images are square."""

    model_type = "small_net"

    def __init__(
        self,
        image_size: int = 28,
        num_channels: int = 1,
        channels: Sequence[int] = (16, 32),
        kernel_size: int = 5,
        widths: Sequence[int] = (),
        **others: Any,
    ) -> None:
        self.image_size = image_size
        self.num_channels = num_channels
        self.channels = list(channels)
        self.kernel_size = kernel_size
        self.widths = list(widths)
        self.num_hidden_layers = len(self.channels) + len(self.widths)
        others.pop("num_hidden_layers", None)  # part of a saved configuration
        super().__init__(**others)


class SmallNetPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Parameters are initialised as in torch: Kaiming-uniform with a = sqrt(5)."""

    config_class = SmallNetConfig
    base_model_prefix = "net"
    main_input_name = "pixel_values"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()


class Convolution(nn.Module):
    """(B, C, H, W) -> (B, C', H/2, W/2)."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2)

    def forward(self, hidden_BCHW: Tensor) -> Tensor:
        return torch.relu(pooled(self.convolution(hidden_BCHW)))


def pooled(hidden_BCHW: Tensor) -> Tensor:
    """2x2 max pooling that drops a last odd row or column.

    Equal to max_pool2d, which is ten times slower on a CPU and would take two thirds of this network's time.
    """
    height, width = hidden_BCHW.shape[2] // 2 * 2, hidden_BCHW.shape[3] // 2 * 2
    columns = torch.maximum(hidden_BCHW[..., :width:2], hidden_BCHW[..., 1:width:2])
    return torch.maximum(columns[..., :height:2, :], columns[..., 1:height:2, :])


class Dense(nn.Module):
    """Flattens each sample -> (B, C)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.relu(self.linear(hidden.flatten(1)))


class SmallNetModel(SmallNetPreTrainedModel):
    """The blocks without the classifier."""

    def __init__(self, config: SmallNetConfig) -> None:
        super().__init__(config)
        steps = zip([config.num_channels, *config.channels], config.channels, strict=False)
        blocks: list[nn.Module] = [Convolution(*step, config.kernel_size) for step in steps]
        side = config.image_size // 2 ** len(config.channels)
        widths = [[config.num_channels, *config.channels][-1] * side**2, *config.widths]
        blocks += [Dense(*step) for step in zip(widths, config.widths, strict=False)]
        self.blocks = nn.ModuleList(blocks)
        self.num_features: int = widths[-1]
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithNoAttention:
        hidden = pixel_values
        for block in self.blocks:
            hidden = block(hidden)
        return BaseModelOutputWithNoAttention(last_hidden_state=hidden)


class SmallNetForImageClassification(SmallNetPreTrainedModel):
    """The blocks and a linear classifier on their flattened output."""

    def __init__(self, config: SmallNetConfig) -> None:
        super().__init__(config)
        self.net = SmallNetModel(config)
        assert config.num_labels is not None
        self.classifier = nn.Linear(self.net.num_features, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None
    ) -> ImageClassifierOutputWithNoAttention:
        logits = self.classifier(self.net(pixel_values).last_hidden_state.flatten(1))
        loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)
