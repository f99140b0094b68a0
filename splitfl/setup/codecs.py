"""Checks of a run's codecs against its other settings."""

from collections.abc import Iterator
from typing import Final

from splitfl.config import RunConfig
from splitfl.config.codec import KINDS
from splitfl.core.errors import ConfigError
from splitfl.wire.codecs import Codec
from splitfl.wire.codecs.chain import codec_of, keyed_of

_WHOLE_MESSAGES: Final = ("reliable", "skip")
_NO_SAMPLES: Final = "adapters belong to no sample"
_NOT_ACKNOWLEDGED: Final = (
    "messages of this kind are replies, of which the sender does not learn whether they arrived"
)

_KINDS: Final = {"adapter_up": "adapters of clients", "adapter_down": "adapters of the server"}


def check_codecs(config: RunConfig, width: int | None) -> None:
    """Raises ConfigError for a codec that cannot be loaded, or that its kind's erasure policy excludes.

    `width` is that of the hidden states, if they all have the same. Error feedback is refused without a codec
    whose error it could feed back.
    """
    for key, default in (("error_feedback", True), ("error_decay", 1.0)):
        got = getattr(config.codec, key)
        if config.codec.adapter_up == "none" and got != default:
            raise ConfigError(
                f"codec.{key} is read only with codec.adapter_up: leave it at {str(default).lower()}, got "
                f"{str(got).lower()}"
            )
    for key, kind, name in _named(config):
        policy = config.erasure.by_kind().get(kind, "reliable")
        _check_keyed(key, kind, name, policy)
        codec = _rows_codec(name)
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
    """Raises ConfigError for a codec that a controller cannot plan with: its costs depend on values, or on
    the rounds before.
    """
    for key, _, name in _named(config):
        if keyed_of(name)[0]:
            raise ConfigError(
                f"{key} {name!r} needs memory for every sample, which [auto] cannot plan from two rounds: "
                "leave the differences out, or run without auto.budget"
            )
        if not _rows_codec(name).has_fixed_size:
            raise ConfigError(
                f"{key} {name!r} has a size that depends on the data, with which [auto] cannot plan: "
                "use a codec of fixed size, or run without auto.budget"
            )


def codecs_of_varying_size(config: RunConfig) -> list[str]:
    """The codecs of [codec] whose size depends on values."""
    return sorted({name for name in config.codec.by_kind().values() if not _rows_codec(name).has_fixed_size})


def describe_codecs(config: RunConfig) -> str:
    """A sentence on the codecs for a report; "" without any."""
    used = {kind: name for kind, name in config.codec.by_kind().items() if name != "none"}
    about = {name: f" ({_about(name)})" for name in used.values()}
    parts = [f"{name}{about.pop(name, '')} for the {_KINDS.get(kind, kind)}" for kind, name in used.items()]
    return f"Messages were encoded: {', '.join(parts)}." if parts else ""


def _check_keyed(key: str, kind: str, name: str, policy: str) -> None:
    """Raises ConfigError for differences of messages whose receiver could not tell which rows it holds."""
    keyed, _ = keyed_of(name)
    if keyed is None:
        return
    if kind != "activation":
        why = _NO_SAMPLES if kind not in KINDS else _NOT_ACKNOWLEDGED
        raise ConfigError(f"{key} must not send differences, got {name!r}: {why}; use codec.activation")
    if policy not in _WHOLE_MESSAGES:
        raise ConfigError(
            f"erasure.{kind} must be 'reliable' or 'skip' with {key} {name!r}, whose rows are differences, "
            f"which cannot be lost one by one; got {policy!r}"
        )


def _rows_codec(name: str) -> Codec:
    """The codec of rows of a chain, with its entropy coder."""
    return codec_of(keyed_of(name)[1])


def _about(name: str) -> str:
    keyed, _ = keyed_of(name)
    return f"{keyed.about}, then {_rows_codec(name).about}" if keyed else _rows_codec(name).about


def _named(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Each codec of the settings, with its key and the kind of message that it encodes."""
    for kind, name in config.codec.by_kind().items():
        yield f"codec.{kind}", kind, name
    for name in config.auto.codecs:
        for kind in KINDS:
            yield "auto.codecs", kind, name
