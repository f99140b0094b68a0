"""Codecs of rows of tokens. A codec is one module and its name in `splitfl.config.codec.CODECS`; other
packages register theirs in the entry-point group `splitfl.codecs`."""

from importlib import import_module
from typing import Final

from splitfl.config import codec as names
from splitfl.core.registry import Registry
from splitfl.wire.codecs.codec import Codec, CodecStage, EntropyCoder, KeyedCodec, Parts, Projection

__all__ = ["CODECS", "Codec", "CodecStage", "EntropyCoder", "KeyedCodec", "Parts", "Projection"]


def _built_in(name: str) -> CodecStage:
    """The codec of the module of this name, which is called so in capitals there."""
    found: CodecStage = getattr(import_module(f"{__name__}.{name}"), name.upper())
    return found


CODECS: Final = Registry(names.GROUP, CodecStage, {name: _built_in(name) for name in names.CODECS})
