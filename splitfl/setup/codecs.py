"""Which codecs a run can have: what a codec's row says, held against the other settings."""

from collections.abc import Iterator

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.wire.codecs import CODECS


def check_codecs(config: RunConfig) -> None:
    """ConfigError for a codec that cannot be loaded, or that the erasure policy of its kind excludes."""
    for key, kind, name in _named(config):
        policy = config.erasure.by_kind()[kind]
        if CODECS[name].unit_bytes is None and policy != "reliable":
            raise ConfigError(
                f"erasure.{kind} must be 'reliable' with {key} {name!r}, whose rows have no fixed number of "
                f"bytes, got {policy!r}"
            )


def refuse_sizes_of_data(config: RunConfig) -> None:
    """ConfigError for a codec whose bytes depend on numbers that a dry run does not compute."""
    for key, _, name in _named(config):
        if CODECS[name].unit_bytes is None:
            raise ConfigError(
                f"{key} {name!r} takes a number of bytes that depends on the data and cannot be planned: "
                "name a codec of fixed size, or run without a plan"
            )


def describe_codecs(config: RunConfig) -> str:
    """How messages were encoded, for a report; "" where none was."""
    used = {kind: name for kind, name in config.codec.by_kind().items() if name != "none"}
    about = {name: f" ({CODECS[name].about})" for name in used.values()}
    said = [f"{name}{about.pop(name, '')} for the {kind}" for kind, name in used.items()]
    return f"What crossed the cut was encoded: {', '.join(said)}." if said else ""


def _named(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Each codec that the settings name, with its key and the kind of message that it would encode."""
    for kind, name in config.codec.by_kind().items():
        yield f"codec.{kind}", kind, name
    for name in config.auto.codecs:
        for kind in config.codec.by_kind():
            yield "auto.codecs", kind, name
