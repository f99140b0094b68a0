"""Linear modules with frozen weights of 8 or 4 bits, quantised by torchao (weight-only).

- `int8` is torchao's Int8WeightOnlyConfig: symmetric, one float32 scale for each row (output).
- `int4` is its IntxWeightOnlyConfig with weight_dtype=torch.int4 and PerGroup: symmetric, one scale in the
  model's dtype for each group of consecutive weights of a row.

torchao's own tensors keep a dequantised copy of every weight from the forward to the backward pass, and its
packed int4 layouts have no backward pass on the CPU. Here the same values are kept as integers, two int4 in
a byte, and each weight is dequantised where it is multiplied, in both passes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splitfl.config import ModelConfig
from splitfl.core.errors import ConfigError, CutError


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """The `bits` of a weight, and the number of weights that share a scale: `group_size`, 0 for a row."""

    bits: int
    group_size: int = 0

    def __str__(self) -> str:
        return f"int{self.bits}" + (f" in groups of {self.group_size}" if self.group_size else "")


def quantisation_of(model: ModelConfig) -> Quantisation | None:
    """The quantisation in these settings."""
    group_size = model.quantization_group_size
    return {"none": None, "int8": Quantisation(bits=8), "int4": Quantisation(bits=4, group_size=group_size)}[
        model.quantization
    ]


class QuantisedLinear(nn.Linear):
    """A frozen linear module whose weights are integers.

    `qdata` is int8 (out, in) or, for int4, uint8 (out, in / 2) with the even columns in the low bits;
    `scale` is (out, groups). `weight` is computed from them.
    """

    def __init__(
        self, qdata: Tensor, scale: Tensor, bias: nn.Parameter | None, bits: int, dtype: torch.dtype
    ) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = qdata.shape[1] * (8 // bits), len(qdata)
        self.bits, self.dtype = bits, dtype
        self.qdata = nn.Parameter(qdata, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.register_parameter("bias", bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # of nn.Linear, which has a parameter
        """The dequantised weight (out, in) in the model's dtype."""
        return _dequantised(self.qdata, self.scale, self.bits).to(self.dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Computes the product as torchao does, and adds the bias."""
        product = _product(input, self.qdata, self.scale, self.bits, is_transposed=False)
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """x W^T, or x W if `is_transposed`, of a quantised weight; its derivative keeps no dequantised copy."""

    @staticmethod
    def forward(x: Tensor, qdata: Tensor, scale: Tensor, bits: int, is_transposed: bool) -> Tensor:
        if bits == 8:  # as torchao: the scale of a row multiplies its output
            weight, scale = qdata.to(x.dtype), scale.to(x.dtype).flatten()
            return (x * scale) @ weight if is_transposed else (x @ weight.T) * scale
        weight = _dequantised(qdata, scale, bits).to(x.dtype)
        return x @ weight if is_transposed else x @ weight.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, qdata, scale, *ctx.layout = inputs
        ctx.save_for_backward(qdata, scale)
        ctx.save_for_forward(qdata, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (qdata, scale), (bits, is_transposed) = ctx.saved_tensors, ctx.layout
        found = _product(grad, qdata, scale, bits, is_transposed=not is_transposed)
        return found, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *others: Any) -> Tensor:
        (qdata, scale), (bits, is_transposed) = ctx.saved_tensors, ctx.layout
        return _product(tangent, qdata, scale, bits, is_transposed=is_transposed)


def _product(x: Tensor, qdata: Tensor, scale: Tensor, bits: int, *, is_transposed: bool) -> Tensor:
    found: Tensor = _Product.apply(x, qdata, scale, bits, is_transposed)  # type: ignore[no-untyped-call]
    return found


def allocated(
    name: str,
    like: Tensor,
    bias: nn.Parameter | None,
    quantisation: Quantisation,
    *,
    is_shape_only: bool = False,
) -> QuantisedLinear:
    """The module for a weight of this shape (out, in) and dtype, on the CPU, without values yet.

    A shape-only one has no storage. Raises CutError if groups do not divide the rows.
    """
    bits, inputs = quantisation.bits, like.shape[1]
    group_size = quantisation.group_size or inputs
    if inputs % group_size:
        raise CutError(
            f"model.quantization_group_size must divide the {inputs} inputs of {name}, got {group_size}"
        )
    dtypes = (torch.int8, torch.float32) if bits == 8 else (torch.uint8, like.dtype)
    columns = inputs * bits // 8, inputs // group_size
    qdata, scale = (
        torch.zeros((), dtype=dtype, device="cpu").expand(len(like), count)
        if is_shape_only
        else torch.empty(len(like), count, dtype=dtype, device="cpu")
        for dtype, count in zip(dtypes, columns, strict=True)
    )
    return QuantisedLinear(qdata, scale, bias, bits, like.dtype)


def quantise(module: QuantisedLinear, weight: Tensor) -> None:
    """Sets the module's integers and scales by torchao, on the CPU, so that devices agree.

    Raises ConfigError without torchao.
    """
    put(module, *_by_torchao(weight, module.bits, weight.shape[1] // module.scale.shape[1]))


def put(module: QuantisedLinear, values: Tensor, scale: Tensor) -> None:
    """Sets int8 values (out, in), which for int4 lie in -8..7, and scales (out, groups)."""
    if module.bits == 4:
        low, high = (values[:, first::2].view(torch.uint8) & 15 for first in (0, 1))
        values = low | high << 4
    module.qdata.copy_(values)
    module.scale.copy_(scale)


def num_weights(module: nn.Module) -> int:
    """The number of weights of a linear module, quantised or not."""
    if isinstance(module, QuantisedLinear):
        return module.in_features * module.out_features
    return module.get_parameter("weight").numel()


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a linear module, dequantised if it is quantised; without a gradient."""
    weight: Tensor = getattr(module, "weight")  # noqa: B009  # of any class, and not always a parameter
    return weight.detach()


def is_shape_only(module: nn.Module) -> bool:
    """Whether the weight of a linear module has no storage."""
    held = module.qdata if isinstance(module, QuantisedLinear) else module.get_parameter("weight")
    return 0 in held.stride()


def _dequantised(qdata: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The weights (out, in), in the scale's dtype."""
    if bits == 4:
        pairs = torch.stack([qdata & 15, qdata >> 4], dim=-1).view(torch.int8)
        qdata = ((pairs ^ 8) - 8).flatten(1)  # two's complement of 4 bits
    groups = qdata.to(scale.dtype).view(*scale.shape, -1)
    return (groups * scale[:, :, None]).flatten(1)


def no_torchao() -> ConfigError:
    """The error for weights that are to be quantised without torchao."""
    return ConfigError(
        "model.quantization needs torchao, which is not installed: pip install 'splitfl[quantization]'"
    )


def _by_torchao(weight: Tensor, bits: int, group_size: int) -> tuple[Tensor, Tensor]:
    """The int8 values (out, in) and scales (out, groups) of a weight."""
    try:
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup, quantize_
    except ImportError:
        raise no_torchao() from None
    linear = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().cpu(), requires_grad=False)
    if bits == 8:
        settings = Int8WeightOnlyConfig(set_inductor_config=False)
    else:
        settings = IntxWeightOnlyConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]  # missing in torch's stubs
            granularity=PerGroup(group_size),
        )
    quantize_(linear, settings)
    made: Any = linear.weight
    del linear.weight  # quantize_ leaves the module in a reference cycle, which would keep it
    return made.qdata, made.scale
