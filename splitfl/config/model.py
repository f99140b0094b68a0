"""Which model, where it is cut, and which adapters are trained on either side."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from splitfl.config.checks import above, at_least, one_of
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model: an alias of `splitfl list models`, a hub name, or a local folder.

    With `new_classifier` the checkpoint's own classifier, which may be for other labels, is left out and
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
    """One side's adapters: `lora` (Hu et al., ICLR'22), `vera` (Kopiczko et al., ICLR'24), `ia3`
    (Liu et al., NeurIPS'22), `tinylora` (arXiv 2602.04118) or `loha` (Hyeon-Woo et al., ICLR'22); no
    targets means the family's own. `full` has none: the side's own parameters are all trained.

    LoRA and LoHa scale by alpha / rank. `ranks` gives each of the side's blocks a rank of its own,
    in order, at that same scale. VeRA has a `rank` and nothing else to set, IA3 nothing at all.
    TinyLoRA has a `rank`, of what is frozen, and trains so many `numbers` in each module.
    """

    kind: str = "lora"
    rank: int = 8
    alpha: float = 16.0
    ranks: tuple[int, ...] = ()
    numbers: int = 64
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("adapter kind", self.kind, ("lora", "vera", "ia3", "tinylora", "loha", "full"))
        at_least("adapter rank", self.rank, 1)
        above("adapter alpha", self.alpha, 0.0)
        for rank in self.ranks:
            at_least("adapter ranks", rank, 1)
        at_least("adapter numbers", self.numbers, 1)
        for name in _UNREAD[self.kind]:
            got, default = getattr(self, name), getattr(SideConfig, name)
            if got != default:
                raise ConfigError(
                    f"adapters of kind {self.kind!r} have no {name}: leave it at {default}, got {got}"
                )


_UNREAD: Final[Mapping[str, tuple[str, ...]]] = {
    "lora": ("numbers",),
    "vera": ("alpha", "ranks", "numbers"),
    "ia3": ("rank", "alpha", "ranks", "numbers"),
    "tinylora": ("alpha", "ranks"),
    "loha": ("numbers",),
    "full": ("rank", "alpha", "ranks", "numbers", "targets"),
}


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What is trained: adapters on either side of the cut, each side's of a kind of its own."""

    head: SideConfig = field(default_factory=SideConfig)
    body: SideConfig = field(default_factory=SideConfig)
