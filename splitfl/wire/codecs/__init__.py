"""Codecs of rows of tokens. A codec is one module, one entry here and its name in splitfl.config.codec;
other packages register theirs in the entry-point group `splitfl.codecs`."""

from typing import Final

from splitfl.config.codec import GROUP
from splitfl.core.registry import Registry
from splitfl.wire.codecs.ans import ANS
from splitfl.wire.codecs.bf16 import BF16
from splitfl.wire.codecs.codec import Codec, CodecStage, EntropyCoder, KeyedCodec, Parts, Projection
from splitfl.wire.codecs.delta import DELTA
from splitfl.wire.codecs.huffman import HUFFMAN
from splitfl.wire.codecs.int4 import INT4
from splitfl.wire.codecs.int8 import INT8
from splitfl.wire.codecs.lowrank import LOWRANK
from splitfl.wire.codecs.none import NONE
from splitfl.wire.codecs.topk import TOPK
from splitfl.wire.codecs.uniform import UNIFORM
from splitfl.wire.codecs.zstd import ZSTD

__all__ = ["CODECS", "Codec", "CodecStage", "EntropyCoder", "KeyedCodec", "Parts", "Projection"]

CODECS: Final = Registry(
    GROUP,
    CodecStage,
    {
        "none": NONE,
        "bf16": BF16,
        "int8": INT8,
        "int4": INT4,
        "uniform": UNIFORM,
        "topk": TOPK,
        "lowrank": LOWRANK,
        "huffman": HUFFMAN,
        "zstd": ZSTD,
        "ans": ANS,
        "delta": DELTA,
    },
)
