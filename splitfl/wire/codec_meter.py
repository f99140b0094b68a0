"""Measures codecs on a sample of a run's messages: bits, entropy, error and time.

A sampled message is encoded and decoded once more, beside its way through the run, whose bits do not change.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from splitfl.config import CodecConfig
from splitfl.core.messages import CodecUse, Leave, Message
from splitfl.wire.codecs.chain import codec_of
from splitfl.wire.frame import MAX_FRAME_BYTES, ROWS, codec_name
from splitfl.wire.rows import decode_rows, encode_rows

EVERY: Final = 32
"""One message of a kind in this number, the first, is measured."""


class CodecMeter:
    """One node's measurements, summed by kind of message and codec."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, int] = defaultdict(int)
        self._uses: dict[tuple[str, str], CodecUse] = {}

    def message(self, message: Message, codec: CodecConfig, whole: Tensor | None = None) -> None:
        """Takes a message about to be sent, with its sender's codecs; ignores one without encoded rows.

        The error of differences is relative to the `whole` rows.
        """
        kind, name = type(message).__name__.lower(), codec_name(codec, message)
        if name != "none" and (rows := getattr(message, ROWS[type(message).__name__])) is not None:
            self.rows(kind, [rows.detach().cpu()], name, getattr(codec, kind), whole)

    def rows(
        self, kind: str, several: Sequence[Tensor], codec: str, chain: str = "", whole: Tensor | None = None
    ) -> None:
        """Takes the rows (..., D) of one message, which may be several tensors of different width.

        Of differences, `chain` is the setting and `whole` the rows that their error is relative to.
        """
        self._seen[kind] += 1
        if self._seen[kind] % EVERY == 1:
            for rows in several:
                if rows.numel():
                    use = measured(kind, rows, codec)
                    power = use.power if whole is None else _power(whole.detach())
                    use = replace(use, codec=chain or codec, power=power)
                    self.add([use])

    def add(self, uses: Iterable[CodecUse]) -> None:
        """Takes measurements of another meter."""
        for use in uses:
            key = (use.kind, use.codec)
            self._uses[key] = summed(self._uses[key], use) if key in self._uses else use

    def take(self) -> tuple[CodecUse, ...]:
        """The sums so far, which are forgotten: of several nodes with one meter, one reports them."""
        taken, self._uses = self.uses(), {}
        return taken

    def uses(self) -> tuple[CodecUse, ...]:
        """The sums, one for each kind and codec."""
        return tuple(self._uses.values())


def measured(kind: str, rows: Tensor, codec: str) -> CodecUse:
    """One encoding and decoding of rows, in CPU time of this thread."""
    began_s = time.thread_time()
    coded = encode_rows(rows, codec)
    encoded_s = time.thread_time()
    decoded = decode_rows(coded, MAX_FRAME_BYTES)
    decoded_s = time.thread_time()
    streams = codec_of(codec).streams
    exact = rows.to(torch.float64)
    return CodecUse(
        kind=kind,
        codec=codec,
        values=rows.numel(),
        coded_bytes=sum(part.nbytes for part in coded.parts.values()),
        entropy_bits=sum(map(entropy_bits, streams(coded.parts, rows.shape[-1]))) if streams else None,
        error=float((decoded.to(torch.float64) - exact).square().sum()),
        power=_power(rows),
        encode_s=encoded_s - began_s,
        decode_s=decoded_s - encoded_s,
    )


def _power(rows: Tensor) -> float:
    return float(rows.to(torch.float64).square().sum())


def entropy_bits(symbols: Tensor) -> float:
    """The order-0 entropy of integers, times their number."""
    counts = torch.unique(symbols, return_counts=True)[1].to(torch.float64)
    return float((counts * (counts.sum() / counts).log2()).sum())


def summed(one: CodecUse, other: CodecUse) -> CodecUse:
    """The sums of two measurements of one kind and codec."""
    entropies = (one.entropy_bits, other.entropy_bits)
    return CodecUse(
        kind=one.kind,
        codec=one.codec,
        values=one.values + other.values,
        coded_bytes=one.coded_bytes + other.coded_bytes,
        entropy_bits=sum(bits for bits in entropies if bits is not None) if None not in entropies else None,
        error=one.error + other.error,
        power=one.power + other.power,
        encode_s=one.encode_s + other.encode_s,
        decode_s=one.decode_s + other.decode_s,
    )


def codec_rows(server: CodecMeter, clients: Iterable[Leave]) -> list[dict[str, Any]]:
    """A row for each kind and codec that the server or a client measured, per value: bits, error, seconds."""
    together: dict[tuple[str, str], CodecUse] = {}
    for use in (*server.uses(), *(use for leave in clients for use in leave.codecs)):
        key = (use.kind, use.codec)
        together[key] = summed(together[key], use) if key in together else use
    return [_row(use) for _, use in sorted(together.items())]


def _row(use: CodecUse) -> dict[str, Any]:
    return {
        "kind": use.kind,
        "codec": use.codec,
        "values": use.values,
        "bits": 8.0 * use.coded_bytes / use.values,
        "entropy_bits": None if use.entropy_bits is None else use.entropy_bits / use.values,
        "relative_error": (use.error / use.power) ** 0.5 if use.power else 0.0,
        "encode_s": use.encode_s / use.values,
        "decode_s": use.decode_s / use.values,
    }
