"""Encoding and decoding an activation: time as a share of a training step, bits over the codes' entropy."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.bench.baselines.unsplit import adamw, adapted_model, batches_of, train_step
from experiments.bench.fresh import Fresh, Hand
from experiments.bench.ratio import Figure, at_most, pair_ratios
from experiments.bench.setting import Setting
from splitfl.config import EXACT, CodecConfig
from splitfl.core.allocator import keep_freed_memory
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation
from splitfl.wire import Envelope, decode, encode
from splitfl.wire.codec_meter import entropy_bits
from splitfl.wire.codecs.chain import codec_of
from splitfl.wire.rows import encode_rows

_FRAMES = 50
_CODED = 3
_CHAINS = (
    *("int8", "int4", "uniform", "uniform+huffman", "uniform:step=0.75+huffman"),
    *("topk:fraction=0.05+int8+huffman", "lowrank:rank=8+int8"),
)
_EXTRA = ("uniform+zstd", "uniform:step=1.5+ans")


def codec(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Encoding and decoding one activation, against the unsplit step."""
    progress("codec")
    with Fresh(setting.folder / "codec.log", _time, setting) as process:
        times: list[tuple[float, float, float]] = process.take()
        process.go()
        coded_s, bits = process.take()
        process.go()
    step_s, frame_s, copy_s = zip(*times, strict=True)
    figures = [
        Figure(
            what="time, encoding and decoding an activation / unsplit step*",
            ratios=pair_ratios(frame_s, step_s),
            target=at_most(0.01),
        ),
        Figure(
            what="the same / copying its bytes once",
            ratios=pair_ratios(frame_s, copy_s),
        ),
    ]
    for chain, spent_s in coded_s.items():
        figures.append(
            Figure(
                what=f"{chain}: time / unsplit step*",
                ratios=pair_ratios(spent_s, step_s),
                target=at_most(0.02),
            )
        )
    for chain, ratio in bits.items():
        figures.append(Figure(what=f"{chain}: bits / entropy", ratios=(ratio,), target=at_most(1.01)))
    return figures


def _time(hand: Hand, setting: Setting) -> None:
    """Sends (step, frame, copy) in seconds, a row per sweep."""
    torch.set_num_threads(1)
    keep_freed_memory()
    batch = batches_of(setting, 1)[0]
    model = adapted_model(setting).train()
    optimiser = adamw(model, setting)
    hidden_BTD = torch.randn(setting.batch, setting.tokens, setting.width)  # frames hold CPU tensors
    message = Activation(ids_B=batch.ids_B, hidden=hidden_BTD, labels=batch.labels)
    envelope = Envelope(client=0, round=0, lap=1)
    chains = [chain for chain in (*_CHAINS, *_EXTRA) if _is_there(chain)]
    coding = {chain: CodecConfig(activation=chain) for chain in chains}
    rows, coded_s = [], {chain: list[float]() for chain in chains}
    for _ in range(setting.sweeps + 1):
        step_s = _seconds(lambda: train_step(model, optimiser, batch), 1)
        frame_s = _seconds(partial(_there_and_back, message, envelope, EXACT), _FRAMES)
        rows.append((step_s, frame_s, _seconds(hidden_BTD.clone, _FRAMES)))
        for chain, codec in coding.items():
            coded_s[chain].append(_seconds(partial(_there_and_back, message, envelope, codec), _CODED))
    hand(rows[1:])
    coded = [chain for chain in chains if not codec_of(chain).has_fixed_size]
    hand(
        (
            {chain: tuple(values[1:]) for chain, values in coded_s.items()},
            {chain: _bits_over_entropy(hidden_BTD, chain) for chain in coded},
        )
    )


def _there_and_back(message: Activation, envelope: Envelope, codec: CodecConfig) -> None:
    decode(encode(message, envelope, codec))


def _is_there(chain: str) -> bool:
    """Whether the package of an entropy coder is installed."""
    try:
        codec_of(chain)
    except ConfigError:
        return False
    return True


def _bits_over_entropy(rows: Tensor, chain: str) -> float:
    """Bits of the coded codes and gaps, checksums included, over their entropy of order 0."""
    parts, streams = encode_rows(rows, chain).parts, codec_of(chain).streams
    assert streams is not None
    coded_bytes = sum(part.nbytes for name, part in parts.items() if name in ("codes", "gaps"))
    return 8 * coded_bytes / sum(map(entropy_bits, streams(parts, rows.shape[-1])))


def _seconds(work: Callable[[], object], times: int) -> float:
    start_s = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start_s) / times
