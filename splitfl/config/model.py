"""Settings of the model, its cut, and the adapters of each side."""

from dataclasses import dataclass, field

from splitfl.config.checks import at_least, one_of
from splitfl.config.plugin import PluginTable
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model: an alias of `splitfl list models`, a hub name, or a local folder.

    Weights are loaded as `dtype`; `attention` names transformers' implementation of it. With
    `new_classifier` the checkpoint's classifier is replaced by a new one for the task's labels.

    `quantization` is the weight-only quantisation of the base model's linear modules when they are loaded:
    torchao's `int8` (Int8WeightOnlyConfig), or `int4` (IntxWeightOnlyConfig) in groups of
    `quantization_group_size` weights of a row, which share a scale; or bitsandbytes' `nf4` (QLoRA). Adapters
    are trained above it. `none` leaves weights as the checkpoint has them, which may be quantised so.
    """

    name: str = "minilm"
    dtype: str = "float32"
    attention: str = "sdpa"
    new_classifier: bool = False
    quantization: str = "none"
    quantization_group_size: int = 128

    def __post_init__(self) -> None:
        one_of("model.dtype", self.dtype, ("float32", "bfloat16"))
        one_of("model.attention", self.attention, ("sdpa", "eager"))
        one_of("model.quantization", self.quantization, ("none", "int8", "int4", "nf4"))
        at_least("model.quantization_group_size", self.quantization_group_size, 2)
        if self.quantization_group_size % 2:
            raise ConfigError(
                f"model.quantization_group_size must be even, got {self.quantization_group_size}"
            )


@dataclass(frozen=True, kw_only=True)
class PartitionConfig:
    """The cut: the client's head has the first `cut` blocks, and its tail, for methods with one, the
    last `tail_blocks` blocks and the output layer."""

    cut: int = 2
    tail_blocks: int = 0

    def __post_init__(self) -> None:
        at_least("partition.cut", self.cut, 1)
        at_least("partition.tail_blocks", self.tail_blocks, 0)


@dataclass(frozen=True, kw_only=True)
class SideConfig(PluginTable):
    """One side's adapters: `splitfl list adapters` names the kinds; each has its own settings."""

    kind: str = "lora"


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The trained adapters of each side of the cut, whose kinds may differ.

    `start` is a folder with a LoRA or DoRA in peft's format, with whose values training starts.
    """

    head: SideConfig = field(default_factory=SideConfig)
    body: SideConfig = field(default_factory=SideConfig)
    start: str = ""
