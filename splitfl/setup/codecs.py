"""Checks of a run's codecs against its other settings."""

from collections.abc import Iterator

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.wire.codecs.chain import codec_of


def check_codecs(config: RunConfig) -> None:
    """Raises ConfigError for a codec that cannot be loaded, or that its kind's erasure policy excludes."""
    for key, kind, name in _named(config):
        policy = config.erasure.by_kind()[kind]
        if codec_of(name).unit_bytes is None and policy != "reliable":
            raise ConfigError(
                f"erasure.{kind} must be 'reliable' with {key} {name!r}, whose rows have no fixed number of "
                f"bytes, got {policy!r}"
            )


def check_fixed_sizes(config: RunConfig) -> None:
    """Raises ConfigError for a codec whose size depends on values, which a controller cannot plan with."""
    for key, _, name in _named(config):
        if codec_of(name).unit_bytes is None:
            raise ConfigError(
                f"{key} {name!r} has a size that depends on the data, with which [auto] cannot plan: "
                "use a codec of fixed size, or run without auto.budget"
            )


def codecs_of_varying_size(config: RunConfig) -> list[str]:
    """The codecs of [codec] whose size depends on values."""
    return sorted({name for name in config.codec.by_kind().values() if codec_of(name).unit_bytes is None})


def describe_codecs(config: RunConfig) -> str:
    """A sentence on the codecs for a report; "" without any."""
    used = {kind: name for kind, name in config.codec.by_kind().items() if name != "none"}
    about = {name: f" ({codec_of(name).about})" for name in used.values()}
    parts = [f"{name}{about.pop(name, '')} for the {kind}" for kind, name in used.items()]
    return f"Messages at the cut were encoded: {', '.join(parts)}." if parts else ""


def _named(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Each codec of the settings, with its key and the kind of message that it encodes."""
    for kind, name in config.codec.by_kind().items():
        yield f"codec.{kind}", kind, name
    for name in config.auto.codecs:
        for kind in config.codec.by_kind():
            yield "auto.codecs", kind, name
