"""How the numbers are encoded that cross the cut."""

from dataclasses import dataclass
from typing import Final

from splitfl.config.checks import one_of
from splitfl.core.registry import registered

GROUP: Final = "splitfl.codecs"
"""The entry-point group under which other packages register codecs."""

CODECS: Final = ("none", "bf16", "int8", "int4")
"""The codecs that come with splitfl; see `splitfl.wire.codecs`."""

KINDS: Final = ("activation", "output", "gradient")
"""The kinds of message that hold rows of tokens, as settings name them."""


def codec_names() -> list[str]:
    """All codecs by name, without loading those of other packages."""
    return [*CODECS, *(name for name in registered(GROUP) if name not in CODECS)]


def check_codec(key: str, name: str) -> None:
    """ConfigError for a setting that names no codec."""
    if name not in CODECS:  # entry points are looked up only where they are needed
        one_of(key, name, codec_names())


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """The codec of an activation, an output or a gradient, by kind; both ends work with what was decoded.

    `none`: numbers as they are. `bf16`: 16 bits a number. `int8` and `int4`: so many bits a number and one
    scale a token. Other packages may add codecs (`splitfl list codecs`). `gradient` stands for both
    directions where a method sends gradients up too. `hybrid` takes no more of a gradient than products with
    random directions, whose own noise is far above that of `int4`.
    """

    activation: str = "none"
    output: str = "none"
    gradient: str = "none"

    def __post_init__(self) -> None:
        for kind, name in self.by_kind().items():
            check_codec(f"codec.{kind}", name)

    def by_kind(self) -> dict[str, str]:
        """The codec of each kind of message with rows."""
        return {kind: getattr(self, kind) for kind in KINDS}


EXACT: Final = CodecConfig()
"""Nothing is rounded."""
