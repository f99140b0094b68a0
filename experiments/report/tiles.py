"""The key figures of a run, each with its unit and a line that puts it in proportion."""

from collections.abc import Mapping
from typing import NamedTuple

from splitfl.core.metrics import METRICS
from splitfl.core.quantities import bytes_text, flops_text, metric_text, percent_text, seconds_text
from splitfl.run_folder.read import RunRecord, Summary


class Tile(NamedTuple):
    """What it is, its value, and a remark."""

    name: str
    value: str
    note: str


def tiles(run: RunRecord) -> list[Tile]:
    """The key figures in the order in which a reader asks for them; sums are over all clients."""
    summary = run.summary
    each = 1 / max(summary.clients, 1)
    client_flops = f"{flops_text(summary.client_flops * each)} each"
    return [
        *_learned(summary.final),
        Tile("Sent up", bytes_text(summary.bytes_up), f"{bytes_text(summary.bytes_up * each)} each"),
        Tile("Sent down", bytes_text(summary.bytes_down), f"{bytes_text(summary.bytes_down * each)} each"),
        Tile("Packets", f"{summary.packets:,}", _sent_again(summary)),
        Tile("Airtime", seconds_text(summary.airtime_s), f"{seconds_text(summary.airtime_s * each)} each"),
        Tile("Virtual time", seconds_text(summary.virtual_s), "emulated clock"),
        Tile("Wall time", seconds_text(summary.wall_s), "real clock"),
        Tile("Client work", flops_text(summary.client_flops), client_flops),
        Tile("Server work", flops_text(summary.server_flops), _server_share(summary)),
        Tile("Client peak memory", *_memory(summary.client_peak_bytes)),
        Tile("Server peak memory", *_memory(summary.server_peak_bytes)),
    ]


def _learned(final: Mapping[str, float]) -> list[Tile]:
    """The held-out figures, with the training loss as a remark; by itself only where it is all there is."""
    training = f"training {final['train_loss']:.3f}" if "train_loss" in final else "last measured"
    notes = {**dict.fromkeys(METRICS, "last measured"), "eval_loss": training}
    del notes["train_loss"]
    held_out = [
        Tile(METRICS[key].label[0].upper() + METRICS[key].label[1:], metric_text(key, final[key]), note)
        for key, note in notes.items()
        if key in final
    ]
    if "eval_loss" in final or "train_loss" not in final:
        return held_out
    return [*held_out, Tile("Training loss", metric_text("train_loss", final["train_loss"]), "last round")]


def _sent_again(summary: Summary) -> str:
    share = summary.retransmissions / max(summary.packets + summary.retransmissions, 1)
    return f"{summary.retransmissions:,} repeats, {percent_text(share)}"


def _server_share(summary: Summary) -> str:
    total = summary.client_flops + summary.server_flops
    return f"{percent_text(summary.server_flops / total)} of all" if total else ""


def _memory(peak_bytes: int | None) -> tuple[str, str]:
    if peak_bytes is None:
        return "n/a", "not measured"
    return bytes_text(peak_bytes), "libraries not counted"
