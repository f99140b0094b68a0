"""How the numbers are rounded that cross the cut."""

from dataclasses import dataclass
from typing import Final

from splitfl.config.checks import one_of

CODECS: Final = ("none", "bf16", "int8", "int4")
"""How a token's numbers may be written; see `CodecConfig`."""


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """The codec of an activation, an output or a gradient, by kind; both ends work with what was decoded.

    `none`: as they are. `bf16`: 16 bits a number. `int8` and `int4`: so many bits a number and one scale a
    token. `gradient` stands for both ways where a method sends gradients up too. `hybrid` takes no more of
    a gradient than products with random directions, whose own noise is far above that of `int4`.
    """

    activation: str = "none"
    output: str = "none"
    gradient: str = "none"

    def __post_init__(self) -> None:
        for name in ("activation", "output", "gradient"):
            one_of(f"codec.{name}", getattr(self, name), CODECS)

    def describe(self) -> str:
        """How messages were quantised, for a report; "" where none was."""
        kinds = {name: getattr(self, name) for name in ("activation", "output", "gradient")}
        used = [f"{codec} for the {kind}" for kind, codec in kinds.items() if codec != "none"]
        return f"What crossed the cut was quantised: {', '.join(used)}." if used else ""

    def of(self, kind: str) -> str:
        """The codec of a kind of message, by its class's name; `none` of one without tokens."""
        named = {"Activation": self.activation, "Output": self.output, "Gradient": self.gradient}
        return named.get(kind, "none")


EXACT: Final = CodecConfig()
"""Nothing is rounded."""
