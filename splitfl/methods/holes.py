"""Which methods can go on from a message with holes in it, kind by kind, and why others cannot."""

from collections.abc import Mapping
from typing import Final

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.federation.over_the_air import over_the_air
from splitfl.models.families import IMAGE_CLASSIFICATION

_ALL: Final = frozenset({"mask", "zero", "rescale", "stale", "skip"})
_NO_MASK: Final = _ALL - {"mask"}
_WHOLE: Final = frozenset({"skip"})

_BOTH_WAYS: Final = {"activation": _ALL, "gradient": _ALL}
HOLES: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "sfl-v2": _BOTH_WAYS,
    "sfl-v1": _BOTH_WAYS,
    "hybrid": _BOTH_WAYS,
    "cse-fsl": {"activation": _ALL},
    "fsl-sage": {"activation": _ALL},
    "heron": {"activation": _ALL},
    "ushape": {"activation": _NO_MASK, "output": _NO_MASK, "gradient": _ALL},
    "frozen": {"activation": _WHOLE},
    "hosl": {"activation": _WHOLE},
    "mu-splitfed": {"activation": _WHOLE},
}
"""What may be lost of which kind beside `reliable`, which is always allowed; no other kind is sent."""

SUMS: Final = frozenset({"sfl-v2", "sfl-v1", "ushape", "cse-fsl", "fsl-sage", "heron", "fedlora"})
"""Whose clients all train the same tensors and send them to be averaged, so that the air can add them up."""

REASONS: Final[Mapping[str, str]] = {
    "ushape": "its client's tail finds the loss, and is not told which tokens its server has heard of",
    "frozen": "its server keeps what came for all later epochs, and a hole would stay for ever",
    "hosl": "a difference of two losses with different tokens missing is not the loss's slope",
    "mu-splitfed": "a difference of two losses with different tokens missing is not the loss's slope",
}


def refuse_holes(config: RunConfig, kind: str) -> None:
    """ConfigError for a meaning of loss, or for numbers sent as they are, that the method cannot bear."""
    name, sent = config.method.name, HOLES.get(config.method.name, {})
    for what in ("activation", "output", "gradient"):
        policy, is_analog = getattr(config.erasure, what), what in config.analog.kinds
        if policy == "reliable" and not is_analog:
            continue
        if what not in sent:
            raise ConfigError(
                f"the method {name!r} sends no {what} that may be lost: leave erasure.{what} reliable"
            )
        if is_analog and policy != "reliable":
            raise ConfigError(
                f"an {what} sent as it is has no packets: leave erasure.{what} reliable, got {policy!r}"
            )
        if is_analog and sent[what] == _WHOLE:
            raise ConfigError(f"the method {name!r} cannot send its {what} with noise: {REASONS[name]}")
        if not is_analog and policy not in sent[what]:
            have = ", ".join(sorted({"reliable", *sent[what]}))
            raise ConfigError(
                f"erasure.{what} = {policy!r} is not for the method {name!r}: {REASONS[name]}; have {have}"
            )
    if config.analog.sum_adapters:
        if name not in SUMS:
            raise ConfigError(
                f"analog.sum_adapters is for methods whose clients send the same tensors, not for "
                f"{name!r}; have {', '.join(sorted(SUMS))}"
            )
        over_the_air(config)
    if config.erasure.activation == "mask" and kind == IMAGE_CLASSIFICATION:
        raise ConfigError("erasure.activation = 'mask' is not for images: their models attend to every patch")
