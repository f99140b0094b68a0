"""What a client is to do in one round, where that is decided from round to round."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from splitfl.config import CodecConfig
from splitfl.config.codec import codec_number, codec_of_number
from splitfl.core.errors import WireError

NUMBERED: Final = ("sfl-v2", "frozen", "cse-fsl", "hybrid")
"""The methods that a plan can name: on the wire by their places here."""

SPEED: Final = "flops_per_s"
"""By this name a client that begins a round says how fast it has worked, where that is measured."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """By which method a client learns, where its head ends, how many ranks of it learn, how it rounds.

    By `frozen` nothing of the head learns in that round; by any other, the first `rank` rows (A) and columns
    (B) of its LoRA do. `codec` is that of activations and gradients.
    """

    method: str
    cut: int
    rank: int
    codec: str = "none"

    def values(self) -> dict[str, float]:
        """As it travels in a message."""
        method, codec = NUMBERED.index(self.method), codec_number(self.codec)
        return {"plan.method": method, "plan.cut": self.cut, "plan.rank": self.rank, "plan.codec": codec}

    def rounds(self) -> CodecConfig:
        """How activations and gradients are rounded by it."""
        return CodecConfig(activation=self.codec, gradient=self.codec)

    @classmethod
    def told(cls, values: Mapping[str, float]) -> Self | None:
        """From a message's values; None where they name no plan, WireError for one that cannot be."""
        named = {name: values[name] for name in values if name.startswith("plan.")}
        if not named:
            return None
        try:
            whole = {name.removeprefix("plan."): _whole(value) for name, value in named.items()}
            method, codec = NUMBERED[whole.pop("method")], codec_of_number(whole.pop("codec"))
            return cls(method=method, codec=codec, **whole)
        except (LookupError, TypeError, ValueError, OverflowError):
            raise WireError(
                f"a plan must name method, cut, rank and codec by whole numbers, got {named!r:.200}"
            ) from None


def _whole(value: float) -> int:
    if value < 0 or value != int(value):
        raise ValueError
    return int(value)
