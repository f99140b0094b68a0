"""Which model, where it is cut, and which adapters are trained on either side."""

from dataclasses import dataclass, field

from splitfl.config.checks import above, at_least, one_of


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
class SideConfig:
    """One side's adapters, of a `kind` in `splitfl.adapters.registry`.

    Which of the other settings a kind reads it says itself, and changing another one is refused. `rank` is
    that of the kinds that have one; `targets` are the last names of the adapted modules (none: the family's).
    Kinds with an `alpha` scale by alpha / rank; `ranks` gives each of the side's blocks a rank of its own,
    in order, at that same scale. TinyLoRA trains so many `trained_numbers` in each module.
    """

    kind: str = "lora"
    rank: int = 8
    alpha: float = 16.0
    ranks: tuple[int, ...] = ()
    trained_numbers: int = 64
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least("adapter rank", self.rank, 1)
        above("adapter alpha", self.alpha, 0.0)
        for rank in self.ranks:
            at_least("adapter ranks", rank, 1)
        at_least("adapter trained_numbers", self.trained_numbers, 1)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What is trained: adapters on either side of the cut, each side's of a kind of its own."""

    head: SideConfig = field(default_factory=SideConfig)
    body: SideConfig = field(default_factory=SideConfig)
