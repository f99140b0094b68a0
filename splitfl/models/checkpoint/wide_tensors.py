"""Tensors of a narrower model that stay in float32, as in transformers' `from_pretrained`."""

import re

import torch
from torch import nn
from transformers import PreTrainedModel


def keep_in_float32(model: PreTrainedModel) -> None:
    """Widens the parameters and buffers that the model's class names, such as corrections of a router."""
    patterns = [pattern.replace("*", ".*") for pattern in model._keep_in_fp32_modules_strict or ()]
    if not patterns:
        return
    wide = re.compile("|".join(patterns))
    for path, module in model.named_modules():
        for leaf, value in module._parameters.items():
            if value is not None and wide.search(f"{path}.{leaf}"):
                module._parameters[leaf] = nn.Parameter(value.detach().to(torch.float32))
        for leaf, buffer in module._buffers.items():
            if buffer is not None and wide.search(f"{path}.{leaf}"):
                module._buffers[leaf] = buffer.to(torch.float32)
