"""Settings of the codecs for activations, gradients and adapters."""

from dataclasses import dataclass
from typing import Final, Self

from splitfl.config.checks import one_of
from splitfl.core.errors import ConfigError
from splitfl.core.registry import registered

GROUP: Final = "splitfl.codecs"
"""The entry-point group under which other packages register codecs."""

DELTA: Final = "delta"
"""The codec that sends differences from earlier rows of the same sample."""

CODECS: Final = (
    *("none", "bf16", "int8", "int4", "uniform"),
    *("topk", "lowrank", "huffman", "zstd", "ans", DELTA),
)
"""The codecs of splitfl: each is the module of its name in `splitfl.wire.codecs`."""

_LONGEST: Final = 120

KINDS: Final = ("activation", "output", "gradient")
"""The kinds of message with rows of tokens, as keys of settings."""

ADAPTER_KINDS: Final = ("adapter_up", "adapter_down")
"""Adapters by direction, as keys of settings."""


def codec_names() -> list[str]:
    """All codecs by name, without loading those of other packages."""
    return [*CODECS, *(name for name in registered(GROUP) if name not in CODECS)]


def stages_of(chain: str) -> list[tuple[str, dict[str, str]]]:
    """The codecs of a chain and their options: `uniform:step=0.75+huffman`.

    Codecs are joined by `+`; the options of each follow its name, as `:key=value`. Raises ConfigError for
    other text.
    """
    if len(chain) > _LONGEST:
        raise ConfigError(f"a chain of codecs must have at most {_LONGEST} characters, got {len(chain)}")
    stages = []
    for stage in chain.split("+"):
        name, *pairs = stage.split(":")
        options = dict(pair.partition("=")[::2] for pair in pairs)
        if not name or len(options) < len(pairs) or not all(key and value for key, value in options.items()):
            raise ConfigError(f"a codec is written name:option=value:..., joined by '+', got {chain!r}")
        stages.append((name, options))
    return stages


def check_codec(key: str, chain: str) -> None:
    """Raises ConfigError for an unknown codec; options are checked where codecs are loaded."""
    try:
        stages = stages_of(chain)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
    for name, _ in stages:
        if name not in CODECS:  # entry points are looked up only if needed
            one_of(key, name, codec_names())


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """The codec of activations, outputs and gradients, by kind; both ends compute with decoded values.

    `none`: unchanged. `bf16`: 16 bits per number. `int8` and `int4`: 8 or 4 bits per number and one
    scale per token. `uniform`: indices in steps of `step` times the root mean square of each `block`
    numbers. An entropy coder may follow: `uniform:step=0.75:block=256+huffman`, or `zstd`, or `ans`, for a
    message of no fixed size. A projection may precede: `topk:fraction=0.05+int8` sends the largest numbers of
    each token alone, `lowrank:rank=8+int8` coordinates along the leading directions of the message.
    `delta:every=8+` before all of them encodes the differences of an activation from the last one of the same
    samples. Other packages may add codecs (`splitfl list codecs`). `gradient` applies to both directions if a
    method also sends gradients up. `hybrid` uses a gradient only in products with random perturbations, whose
    noise far exceeds the quantisation noise of `int4`.

    `adapter_up` and `adapter_down` encode the differences of a client's adapters to those that it holds
    from the server. With `error_feedback` a client adds the error of its last upload to the next one, times
    `error_decay`.
    """

    activation: str = "none"
    output: str = "none"
    gradient: str = "none"
    adapter_up: str = "none"
    adapter_down: str = "none"
    error_feedback: bool = True
    error_decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.error_decay <= 1.0:
            raise ConfigError(f"codec.error_decay must lie in (0, 1], got {self.error_decay}")
        if self.error_decay != 1.0 and not self.error_feedback:
            raise ConfigError(
                "codec.error_decay is read only with codec.error_feedback: leave it at 1.0, got "
                f"{self.error_decay}"
            )
        for kind, name in self.by_kind().items():
            check_codec(f"codec.{kind}", name)

    @property
    def encodes_adapters(self) -> bool:
        """Whether adapters are encoded in one direction at least."""
        return any(getattr(self, kind) != "none" for kind in ADAPTER_KINDS)

    @classmethod
    def at_cut(cls, codec: str) -> Self:
        """One codec for activations and gradients, as a controller plans it."""
        return cls(activation=codec, gradient=codec)

    def by_kind(self) -> dict[str, str]:
        """The codec of each kind of message."""
        return {kind: getattr(self, kind) for kind in (*KINDS, *ADAPTER_KINDS)}


EXACT: Final = CodecConfig()
"""No codec: lossless encoding."""
