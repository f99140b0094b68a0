"""Linear modules with frozen weights of 8 or 4 bits, quantised by torchao or bitsandbytes (weight-only).

- `int8` is torchao's Int8WeightOnlyConfig: symmetric, one float32 scale for each row (output).
- `int4` is its IntxWeightOnlyConfig with weight_dtype=torch.int4 and PerGroup: symmetric, one scale in the
  model's dtype for each group of consecutive weights of a row.
- `nf4` is bitsandbytes' NormalFloat of 4 bits (Dettmers et al., 2023, QLoRA): 16 levels at quantiles of the
  normal law, one float32 scale, the largest magnitude, for each block of 64 weights in their order.

torchao's own tensors keep a dequantised copy of every weight from the forward to the backward pass, and its
packed int4 layouts have no backward pass on the CPU. Here the same values are kept as integers, two of 4 bits
in a byte, and each weight is dequantised where it is multiplied, in both passes.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from splitfl.config import ModelConfig
from splitfl.core.errors import CutError
from splitfl.core.extras import optional, require

NF4_BLOCK: Final = 64
"""The block size of bitsandbytes, unless it is told another."""
NF4_LEVELS: Final = torch.tensor(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)
"""QLoRA, appendix E: the levels of NF4, to be multiplied by the scale of their block."""
PACKAGES: Final = {"int8": "torchao", "int4": "torchao", "nf4": "bitsandbytes"}
"""The package that quantises, by format."""
_EXTRAS: Final = {"torchao": "quantization", "bitsandbytes": "bitsandbytes"}


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """The format of a weight, and the number of weights that share a scale: `group_size`, 0 for a row."""

    format: str
    group_size: int = 0

    def __str__(self) -> str:
        return self.format + (f" in groups of {self.group_size}" if self.group_size else "")

    @property
    def bits(self) -> int:
        """The bits of a weight without its scale."""
        return _bits(self.format)


def quantisation_of(model: ModelConfig) -> Quantisation | None:
    """The quantisation in these settings."""
    if model.quantization == "none":
        return None
    group_size = {"int8": 0, "int4": model.quantization_group_size, "nf4": NF4_BLOCK}[model.quantization]
    return Quantisation(format=model.quantization, group_size=group_size)


class QuantisedLinear(nn.Linear):
    """A frozen linear module whose weights are integers.

    `qdata` is int8 (out, in) or, with 4 bits, uint8 (out, in / 2) with the even columns in the low bits;
    `scale` is (out, groups), or (blocks, 1) for nf4. `weight` is computed from them.
    """

    def __init__(
        self, qdata: Tensor, scale: Tensor, bias: nn.Parameter | None, format: str, dtype: torch.dtype
    ) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = qdata.shape[1] * (8 // _bits(format)), len(qdata)
        self.format, self.dtype = format, dtype
        self.qdata = nn.Parameter(qdata, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.register_parameter("bias", bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # of nn.Linear, which has a parameter
        """The dequantised weight (out, in) in the model's dtype."""
        return _dequantised(self.qdata, self.scale, self.format).to(self.dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Computes the product as torchao or bitsandbytes does, and adds the bias."""
        product = _product(input, self.qdata, self.scale, self.format, is_transposed=False)
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """x W^T, or x W if `is_transposed`, of a quantised weight; its derivative keeps no dequantised copy."""

    @staticmethod
    def forward(x: Tensor, qdata: Tensor, scale: Tensor, format: str, is_transposed: bool) -> Tensor:
        if format == "int8":  # as torchao: the scale of a row multiplies its output
            weight, scale = qdata.to(x.dtype), scale.to(x.dtype).flatten()
            return (x * scale) @ weight if is_transposed else (x @ weight.T) * scale
        weight = _dequantised(qdata, scale, format).to(x.dtype)
        return x @ weight if is_transposed else x @ weight.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, qdata, scale, *ctx.layout = inputs
        ctx.save_for_backward(qdata, scale)
        ctx.save_for_forward(qdata, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (qdata, scale), (format, is_transposed) = ctx.saved_tensors, ctx.layout
        found = _product(grad, qdata, scale, format, is_transposed=not is_transposed)
        return found, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *others: Any) -> Tensor:
        (qdata, scale), (format, is_transposed) = ctx.saved_tensors, ctx.layout
        return _product(tangent, qdata, scale, format, is_transposed=is_transposed)


def _product(x: Tensor, qdata: Tensor, scale: Tensor, format: str, *, is_transposed: bool) -> Tensor:
    found: Tensor = _Product.apply(x, qdata, scale, format, is_transposed)  # type: ignore[no-untyped-call]
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

    A shape-only one has no storage. Raises CutError if groups do not divide the rows, or blocks the weight.
    """
    groups = _scales(name, like, quantisation)
    columns = like.shape[1] * quantisation.bits // 8
    scale_dtype = like.dtype if quantisation.format == "int4" else torch.float32
    dtype = torch.int8 if quantisation.bits == 8 else torch.uint8
    tensors = ((len(like), columns), dtype), (groups, scale_dtype)
    qdata, scale = (
        torch.zeros((), dtype=dtype, device="cpu").expand(shape)
        if is_shape_only
        else torch.empty(shape, dtype=dtype, device="cpu")
        for shape, dtype in tensors
    )
    return QuantisedLinear(qdata, scale, bias, quantisation.format, like.dtype)


def _scales(name: str, like: Tensor, quantisation: Quantisation) -> tuple[int, int]:
    """The shape of the scales of a weight (out, in)."""
    outputs, inputs = like.shape
    group_size = quantisation.group_size or inputs
    if quantisation.format == "nf4":
        if inputs % 2 or like.numel() % group_size:
            raise CutError(
                f"model.quantization 'nf4' needs an even number of inputs and whole blocks of {group_size} "
                f"weights, and {name} is {outputs} x {inputs}"
            )
        return like.numel() // group_size, 1
    if inputs % group_size:
        raise CutError(
            f"model.quantization_group_size must divide the {inputs} inputs of {name}, got {group_size}"
        )
    return outputs, inputs // group_size


def quantise(module: QuantisedLinear, weight: Tensor) -> None:
    """Sets the module's integers and scales by torchao or bitsandbytes, on the CPU, so that devices agree.

    Raises ConfigError without the package.
    """
    if module.format == "nf4":
        put(module, *_by_bitsandbytes(weight))
    else:
        put(module, *_by_torchao(weight, module.format, weight.shape[1] // module.scale.shape[1]))


def put(module: QuantisedLinear, values: Tensor, scale: Tensor) -> None:
    """Sets int8 values (out, in) and scales: of int4 they lie in -8..7, of nf4 they are levels 0..15."""
    if module.format != "int8":
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


def _bits(format: str) -> int:
    return 8 if format == "int8" else 4


def _dequantised(qdata: Tensor, scale: Tensor, format: str) -> Tensor:
    """The weights (out, in), in the scale's dtype."""
    values, outputs = qdata, len(qdata)
    if format != "int8":
        pairs = torch.stack([qdata & 15, qdata >> 4], dim=-1)
        if format == "nf4":
            values = NF4_LEVELS.to(qdata.device)[pairs.int()]
        else:
            values = (pairs.view(torch.int8) ^ 8) - 8  # two's complement of 4 bits
    groups = values.to(scale.dtype).view(*scale.shape, -1)
    return (groups * scale[:, :, None]).view(outputs, -1)


def check_package(format: str) -> None:
    """Raises ConfigError without the package that quantises to this format."""
    require(PACKAGES[format], *_need(format))


def _need(format: str) -> tuple[str, str]:
    """What needs the package of a format, for an error, and the extra that has it."""
    package = PACKAGES[format]
    return f"model.quantization {format!r} needs {package}, which is not installed", _EXTRAS[package]


def _by_bitsandbytes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The levels 0..15 of a weight as int8 (out, in), and the scales (blocks, 1)."""
    library = optional("bitsandbytes.functional", *_need("nf4"))
    flat = weight.detach().cpu().contiguous()
    packed, state = library.quantize_4bit(flat, blocksize=NF4_BLOCK, quant_type="nf4")
    return nf4_values(packed, weight.shape), state.absmax[:, None]


def nf4_values(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The levels 0..15, int8 of this shape (out, in), from bytes of bitsandbytes: first the high bits."""
    return torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=-1).view(torch.int8).view(shape)


def _by_torchao(weight: Tensor, format: str, group_size: int) -> tuple[Tensor, Tensor]:
    """The int8 values (out, in) and scales (out, groups) of a weight."""
    library = optional("torchao.quantization", *_need(format))
    linear = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().cpu(), requires_grad=False)
    if format == "int8":
        settings = library.Int8WeightOnlyConfig(set_inductor_config=False)
    else:
        settings = library.IntxWeightOnlyConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]  # missing in torch's stubs
            granularity=library.PerGroup(group_size),
        )
    library.quantize_(linear, settings)
    made: Any = linear.weight
    del linear.weight  # quantize_ leaves the module in a reference cycle, which would keep it
    return made.qdata, made.scale
