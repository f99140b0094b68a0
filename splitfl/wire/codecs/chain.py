"""Codecs by the text of a setting or of a frame: a projection, a codec of rows and an entropy coder.

A chain has one of each at most, in this order; numbers after a projection alone stay as they are. In a
setting a keyed codec may precede them.
"""

import inspect
from collections.abc import Mapping
from functools import lru_cache

from splitfl.config.codec import stages_of
from splitfl.core.errors import ConfigError
from splitfl.wire.codecs import CODECS, Codec, CodecStage, EntropyCoder, KeyedCodec, Projection
from splitfl.wire.codecs.entropy import entropy_coded
from splitfl.wire.codecs.none import NONE
from splitfl.wire.codecs.projected import projected


def codec_of(chain: str) -> Codec:
    """The codec of a chain such as `int8` or `uniform:step=0.75+huffman`.

    Raises ConfigError for an unknown codec or option, a value that it may not have, and codecs that do not
    follow each other.
    """
    codec = CODECS.get(chain)
    return codec if isinstance(codec, Codec) else _composed(chain)


@lru_cache(maxsize=128)
def keyed_of(chain: str) -> tuple[KeyedCodec | None, str]:
    """The keyed codec at the start of a chain, None without one, and the rest, which a frame names.

    Raises ConfigError for a keyed codec that no codec of rows follows, and as `codec_of` for its options.
    """
    first, _, rest = chain.partition("+")
    ((name, options),) = stages_of(first)
    if not isinstance(CODECS.get(name), KeyedCodec):
        return None, chain
    if rest in ("", "none"):
        raise ConfigError(
            f"the codec {name!r} must be followed by one that rounds the differences, as in "
            f"'{name}+int8', got {chain!r}"
        )
    keyed = _configured(name, options)
    assert isinstance(keyed, KeyedCodec)
    return keyed, rest


@lru_cache(maxsize=128)
def _composed(chain: str) -> Codec:
    match [_configured(name, options) for name, options in stages_of(chain)]:
        case [Codec() as rows]:
            return rows
        case [Codec() as rows, EntropyCoder() as coder]:
            return entropy_coded(rows, coder, chain)
        case [Projection() as projection]:
            return projected(projection, NONE, None, chain)
        case [Projection() as projection, Codec() as rows]:
            return projected(projection, rows, None, chain)
        case [Projection() as projection, Codec() as rows, EntropyCoder() as coder]:
            return projected(projection, rows, coder, chain)
    raise ConfigError(
        "a chain of codecs is a projection or none, a codec of rows, and an entropy coder or none, got "
        f"{chain!r}"
    )


def _configured(name: str, options: Mapping[str, str]) -> CodecStage:
    if name not in CODECS:
        raise ConfigError(f"unknown codec {name!r:.40}; have {', '.join(CODECS)}")
    codec = CODECS[name]
    if not options:
        return codec
    known = inspect.signature(codec.with_options).parameters if codec.with_options else {}
    values = {}
    for key, text in options.items():
        if key not in known:
            have = f"has {', '.join(known)}" if known else "has none"
            raise ConfigError(f"the codec {name!r} has no option {key!r:.40}; it {have}")
        kind = type(known[key].default)
        try:
            values[key] = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ConfigError(
                f"the option {key!r} of the codec {name!r} must be {what}, got {text!r:.40}"
            ) from None
    assert codec.with_options is not None
    made: CodecStage = codec.with_options(**values)
    return made
