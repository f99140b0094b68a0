"""A client's training memory: a head of three blocks of GPT-2 small's shape, trained by three methods.

Counted are the peak of autograd's saved tensors (see `splitfl.accounting.saved_tensors`; with activation
checkpointing, the checkpoints and the largest block) and the client's state besides the trained parameters:
AdamW's moments, or for `hybrid` the parameters at the start of the round. For information also the peak
resident memory of its own process during training above that after loading the head; this includes the
temporaries of a forward pass, which all three methods have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import torch

from experiments.bench.fresh import Fresh, Hand
from experiments.bench.ratio import Figure, at_most
from experiments.bench.setting import Setting
from splitfl.accounting.saved_tensors import SavedTensors
from splitfl.core.allocator import forget_peak, peak_resident_bytes, resident_bytes
from splitfl.core.messages import Activation, Done, Gradient, Message
from splitfl.data.batch import Batch
from splitfl.methods.parts.method import ClientMethod
from splitfl.methods.registry import method
from splitfl.models.cut import Piece
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict
from splitfl.setup.pieces import PieceLoader

METHODS: Final[Mapping[str, Mapping[str, object]]] = {
    "plain": {"name": "sfl-v2"},
    "checkpointed": {"name": "sfl-v2", "checkpoint_head": True},
    "hybrid": {"name": "hybrid", "perturbations": 1},  # more cost time, not memory
}
_NAMED: Final = {"plain": "plain backpropagation", "checkpointed": "checkpointed", "hybrid": "hybrid"}


def head_memory(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """One step of a client with a head of three blocks, width 768, at B=8 and S=512 (tiny where quick)."""
    small = {"blocks": 4, "cut": 3, "steps": 1, "folder": setting.folder / "head"}
    if not setting.is_quick:
        small |= {"width": 768, "heads": 12, "vocabulary": 1024, "batch": 8, "tokens": 512}
    wide = replace(setting, **small).prepare()  # type: ignore[arg-type]
    bytes_of: dict[str, tuple[float, float]] = {}
    for name in METHODS:
        progress(f"a head trained by {name}")
        with Fresh(wide.folder / f"{name}.log", measure, wide, name) as process:
            bytes_of[name] = process.take()
            process.go()

    def figure(one: str, which: int, what: str) -> Figure:
        ratio = bytes_of[one][which] / bytes_of["plain"][which]
        size = f"{bytes_of[one][which] / 2**20:.1f} of {bytes_of['plain'][which] / 2**20:.1f} MiB"
        return Figure(what=f"{what}, {_NAMED[one]} / {_NAMED['plain']} ({size})", ratios=(ratio,))

    counted = [figure(one, 0, "saved tensors and optimiser") for one in ("hybrid", "checkpointed")]
    resident = [figure(one, 1, "peak resident") for one in ("hybrid", "checkpointed")]
    return [replace(counted[0], target=at_most(1 / 3)), counted[1], *resident]


def measure(hand: Hand, setting: Setting, name: str) -> None:
    """Sends the counted bytes of a client, and its peak resident bytes while training."""
    torch.set_num_threads(1)
    config = from_dict({**as_dict(setting.config(rounds=2)), "method": METHODS[name]})
    experiment = Experiment.of(config)
    pieces = _RecordingLoader(
        config=config, task=experiment.task, num_blocks=experiment.num_blocks, device=setting.device
    )
    batches = experiment.batches(0)
    recomputed = _largest_block_bytes(pieces, batches.batch(0)) if METHODS[name].get("checkpoint_head") else 0
    client = method(config.method.name).client(pieces, batches, 1, config)
    base_bytes = resident_bytes()
    forget_peak()
    _train_round(client, 0)
    resident = peak_resident_bytes() - base_bytes
    with SavedTensors(pieces.made[-1].parameters()) as saved:
        _train_round(client, 1)
    state_bytes = sum(one.nbytes for key, one in client.state().items() if not key.startswith("value."))
    hand((float(saved.peak_bytes + recomputed + state_bytes), float(resident)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _RecordingLoader(PieceLoader):
    """Records the heads that it loads."""

    made: list[Piece] = field(default_factory=list)

    def head(self, cut: int | None = None, *, is_bare: bool = False) -> Piece:
        """See Pieces."""
        self.made.append(super().head(cut, is_bare=is_bare))
        return self.made[-1]


def _train_round(client: ClientMethod, round_index: int) -> None:
    """Runs a client's round against a server that answers every activation with a constant gradient."""
    run = client.round(round_index)
    message = next(run)
    while True:
        reply: Message = Done()
        if isinstance(message, Activation) and message.hidden is not None:
            reply = Gradient(ids_B=message.ids_B, grad=torch.full_like(message.hidden, 1e-3))
        try:
            message = run.send(reply)
        except StopIteration:
            return


def _largest_block_bytes(pieces: PieceLoader, batch: Batch) -> int:
    """Bytes that the largest block's recomputation saves for backward."""
    piece, found = pieces.head(), list[int]()
    blocks = piece.base.get_submodule(piece.family.blocks)
    with SavedTensors(piece.parameters()) as saved:
        for index in piece.blocks:
            block = blocks.get_submodule(str(index))
            block.register_forward_pre_hook(lambda *_: found.append(-saved.bytes))
            block.register_forward_hook(lambda *_: found.append(saved.bytes))
        alive = piece(batch.inputs, {})
    del alive
    return max(before + after for before, after in zip(found[::2], found[1::2], strict=True))
