"""Checks of a run's codecs against its other settings."""

from collections.abc import Iterator
from typing import Final

from splitfl.config import RunConfig
from splitfl.config.codec import KINDS
from splitfl.core.errors import ConfigError
from splitfl.wire.codecs.chain import codec_of

_KINDS: Final = {"adapter_up": "adapters of clients", "adapter_down": "adapters of the server"}


def check_codecs(config: RunConfig, width: int | None) -> None:
    """Raises ConfigError for a codec that cannot be loaded, or that its kind's erasure policy excludes.

    `width` is that of the hidden states, if they all have the same. Error feedback is refused without a codec
    whose error it could feed back.
    """
    if config.codec.adapter_up == "none" and not config.codec.error_feedback:
        raise ConfigError(
            "codec.error_feedback is read only with codec.adapter_up: leave it at true, got false"
        )
    for key, kind, name in _named(config):
        codec, policy = codec_of(name), config.erasure.by_kind().get(kind, "reliable")
        if kind not in KINDS and codec.min_width > 1:
            raise ConfigError(
                f"{key} must be a codec of rows of any width, which adapters have; {name!r} needs "
                f"{codec.min_width} numbers"
            )
        if width is not None and codec.min_width > width:
            raise ConfigError(
                f"{key} {name!r} needs rows of at least {codec.min_width} numbers; hidden states have {width}"
            )
        if codec.unit_bytes is None and policy != "reliable":
            raise ConfigError(
                f"erasure.{kind} must be 'reliable' with {key} {name!r}, whose rows have no fixed number of "
                f"bytes, got {policy!r}"
            )


def check_fixed_sizes(config: RunConfig) -> None:
    """Raises ConfigError for a codec whose size depends on values, which a controller cannot plan with."""
    for key, _, name in _named(config):
        if not codec_of(name).has_fixed_size:
            raise ConfigError(
                f"{key} {name!r} has a size that depends on the data, with which [auto] cannot plan: "
                "use a codec of fixed size, or run without auto.budget"
            )


def codecs_of_varying_size(config: RunConfig) -> list[str]:
    """The codecs of [codec] whose size depends on values."""
    return sorted({name for name in config.codec.by_kind().values() if not codec_of(name).has_fixed_size})


def describe_codecs(config: RunConfig) -> str:
    """A sentence on the codecs for a report; "" without any."""
    used = {kind: name for kind, name in config.codec.by_kind().items() if name != "none"}
    about = {name: f" ({codec_of(name).about})" for name in used.values()}
    parts = [f"{name}{about.pop(name, '')} for the {_KINDS.get(kind, kind)}" for kind, name in used.items()]
    return f"Messages were encoded: {', '.join(parts)}." if parts else ""


def _named(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Each codec of the settings, with its key and the kind of message that it encodes."""
    for kind, name in config.codec.by_kind().items():
        yield f"codec.{kind}", kind, name
    for name in config.auto.codecs:
        for kind in KINDS:
            yield "auto.codecs", kind, name
