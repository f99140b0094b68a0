"""Time to encode and decode an activation's frame, as a share of a training step."""

import time
from collections.abc import Callable

import torch

from experiments.bench.fresh import Fresh, Hand
from experiments.bench.ratio import Figure, at_most, pair_ratios
from experiments.bench.setting import Setting
from experiments.bench.unsplit import adamw, adapted_model, batches_of, train_step
from splitfl.core.allocator import keep_freed_memory
from splitfl.core.messages import Activation
from splitfl.wire import Envelope, decode, encode

_FRAMES = 50


def codec(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Encoding and decoding one activation, against the unsplit step."""
    progress("codec")
    with Fresh(setting.folder / "codec.log", _time, setting) as process:
        times: list[tuple[float, float, float]] = process.take()
        process.go()
    step_s, frame_s, copy_s = zip(*times, strict=True)
    return [
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
    rows = []
    for _ in range(setting.sweeps + 1):
        step_s = _seconds(lambda: train_step(model, optimiser, batch), 1)
        frame_s = _seconds(lambda: decode(encode(message, envelope)), _FRAMES)
        rows.append((step_s, frame_s, _seconds(hidden_BTD.clone, _FRAMES)))
    hand(rows[1:])


def _seconds(work: Callable[[], object], times: int) -> float:
    start_s = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start_s) / times
