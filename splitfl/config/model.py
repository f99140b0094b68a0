"""Which model, where it is cut, and which adapters are trained on either side."""

from dataclasses import dataclass, field

from splitfl.config.checks import at_least, one_of
from splitfl.config.plugin import PluginTable


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model: an alias of `splitfl list models`, a hub name, or a local folder.

    Weights are loaded as `dtype`; `attention` names transformers' implementation of it. With
    `new_classifier` the checkpoint's own classifier, which may be for other labels, is left out and
    one for the task's labels made in its place.
    """

    name: str = "minilm"
    dtype: str = "float32"
    attention: str = "sdpa"
    new_classifier: bool = False

    def __post_init__(self) -> None:
        one_of("model.dtype", self.dtype, ("float32", "bfloat16"))
        one_of("model.attention", self.attention, ("sdpa", "eager"))


@dataclass(frozen=True, kw_only=True)
class PartitionConfig:
    """Where the model is cut: the client's head holds the first `cut` blocks, and for the
    methods that have one its tail the last `tail_blocks` and all that is above them."""

    cut: int = 2
    tail_blocks: int = 0

    def __post_init__(self) -> None:
        at_least("partition.cut", self.cut, 1)
        at_least("partition.tail_blocks", self.tail_blocks, 0)


@dataclass(frozen=True, kw_only=True)
class SideConfig(PluginTable):
    """One side's adapters: `splitfl list adapters` names the kinds, of which each has its own settings."""

    kind: str = "lora"


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What is trained: adapters on either side of the cut, each side's of a kind of its own.

    `start` is a folder with a LoRA or DoRA in peft's format, with whose values training starts.
    """

    head: SideConfig = field(default_factory=SideConfig)
    body: SideConfig = field(default_factory=SideConfig)
    start: str = ""
