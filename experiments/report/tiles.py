"""The key figures of a run, each with its unit and a remark."""

from collections.abc import Mapping
from typing import NamedTuple

from splitfl.core.metrics import METRICS
from splitfl.core.quantities import bytes_text, flops_text, metric_text, percent_text, seconds_text
from splitfl.run_folder.read import RunRecord, Summary


class Tile(NamedTuple):
    """A key figure: name, value and remark."""

    name: str
    value: str
    note: str


def tiles(run: RunRecord) -> list[Tile]:
    """The key figures, most important first; sums are over all clients."""
    summary = run.summary
    per_client = 1 / max(summary.clients, 1)
    client_flops = f"{flops_text(summary.client_flops * per_client)} per client"
    return [
        *_learned(summary.final),
        Tile(
            "Sent up", bytes_text(summary.bytes_up), f"{bytes_text(summary.bytes_up * per_client)} per client"
        ),
        Tile(
            "Sent down",
            bytes_text(summary.bytes_down),
            f"{bytes_text(summary.bytes_down * per_client)} per client",
        ),
        Tile("Packets", f"{summary.packets:,}", _retransmitted(summary)),
        Tile(
            "Airtime",
            seconds_text(summary.airtime_s),
            f"{seconds_text(summary.airtime_s * per_client)} per client",
        ),
        Tile("Virtual time", seconds_text(summary.virtual_s), "emulated clock"),
        Tile("Wall time", seconds_text(summary.wall_s), "real clock"),
        Tile("Client FLOPs", flops_text(summary.client_flops), client_flops),
        Tile("Server FLOPs", flops_text(summary.server_flops), _server_share(summary)),
        Tile("Client peak memory", *_memory(summary.client_peak_bytes)),
        Tile("Server peak memory", *_memory(summary.server_peak_bytes)),
    ]


def _learned(final: Mapping[str, float]) -> list[Tile]:
    """The held-out figures, with the training loss as a remark, or as a tile if there is no held-out loss."""
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


def _retransmitted(summary: Summary) -> str:
    share = summary.retransmissions / max(summary.packets + summary.retransmissions, 1)
    return f"{summary.retransmissions:,} retransmissions, {percent_text(share)}"


def _server_share(summary: Summary) -> str:
    total = summary.client_flops + summary.server_flops
    return f"{percent_text(summary.server_flops / total)} of the total" if total else ""


def _memory(peak_bytes: int | None) -> tuple[str, str]:
    if peak_bytes is None:
        return "n/a", "not measured"
    return bytes_text(peak_bytes), "without libraries"
