"""A run on the server: its loop, ledger, evaluation, checkpoints and folder."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from torch import Tensor

from splitfl.accounting.ledger import SIDES, Ledger
from splitfl.adapters.export import export_adapter
from splitfl.adapters.model_export import MODEL_FOLDER, export_model, is_full
from splitfl.core import checkpoint
from splitfl.core.checkpoint import Checkpoint, CheckpointStore
from splitfl.core.errors import Diverged
from splitfl.core.events import Events
from splitfl.core.json_text import dumps
from splitfl.core.state import part, under
from splitfl.evaluation.leakage import ClientBatches, Probes
from splitfl.models.checkpoint.config_file import config_table
from splitfl.models.checkpoint.source import hub_name, resolve
from splitfl.server.assemble import server_loop_of
from splitfl.server.divergence import ADVICE, refuse_not_finite
from splitfl.server.one_device import OneDevice
from splitfl.server.origin import check_origin, origin_of
from splitfl.server.protocols import RoundEnd, RoundPlanner, ServerSide
from splitfl.setup.experiment import Experiment
from splitfl.transport.base.carrier import Carrier
from splitfl.wire.codec_meter import CodecMeter, codec_rows


class ProgressDisplay(Protocol):
    """Shows a run's progress."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """The server has processed `steps` more training steps of this client."""

    def measured(self, row: Mapping[str, Any]) -> None:
        """Receives the metrics at the end of a round."""


class Tracking(Protocol):
    """Receives a run's metrics, besides the run's own files; see `splitfl.tracking`."""

    def log(self, round_index: int, metrics: Mapping[str, float]) -> None:
        """Receives the metrics after a round."""

    def finish(self, summary: Mapping[str, Any]) -> list[str]:
        """Receives the summary of a run that ended; returns a sentence about each backend that failed."""

    def close(self) -> None: ...


class Run:
    """A run without its transport.

    The transport passes frames to `server_loop` and calls `finish` when every client has left. Writes
    `metrics.jsonl` and checkpoints during the run, and at its end `adapter/` (`model/` after full
    fine-tuning) and `summary.json`.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path | None,
        screen: ProgressDisplay,
        newest: Checkpoint | None = None,
        controller: Callable[[Ledger, Events], RoundPlanner] | None = None,
        track: Callable[[int], Tracking] | None = None,
        carrier: Carrier | None = None,
        side: ServerSide | None = None,
        batches: ClientBatches | None = None,
    ) -> None:
        """`folder` None writes no files; an interrupted run continues from the checkpoint `newest`.

        `controller` makes the controller of a run with `auto.every`, `track` starts the experiment trackers
        from a round on, `carrier` replaces the emulated link, `batches` are those of all clients, with which
        probes are scored. Raises ConfigError for a foreign checkpoint.
        """
        self._experiment = experiment
        side = side or OneDevice(experiment)
        self._origin = origin_of(experiment, side.checksums)
        if newest is not None:
            check_origin(newest, self._origin)
        self._folder = folder
        self._screen = screen
        self._track = track
        self._tracking: Tracking | None = None
        self.stepped = screen.stepped  # see Watcher
        self._began_s = self._round_began_s = time.monotonic()
        self._last: dict[str, Any] = {}
        self.ledger = Ledger(chosen=experiment.config.auto.chosen)
        self._meter = CodecMeter()
        self.server = side.method(self._meter)
        self._whole = side.model()
        self._probes = Probes(experiment, folder, self.server, batches)
        self.events = Events(folder / "metrics.jsonl" if folder is not None else None)
        if newest is None:
            self.events.forget_after(0)
        made = controller(self.ledger, self.events) if controller is not None else None
        self.server_loop = server_loop_of(
            experiment, self._probes.server, self.ledger, self.events, self, None, made, carrier, self._meter
        )
        self._checkpoints = CheckpointStore(folder / "checkpoint") if folder is not None else None
        self._unsaved: tuple[int, dict[str, Tensor], dict[str, str]] | None = None
        self.first_round = self._rounds_ended = 0
        if newest is not None:
            self._restore(newest)

    @property
    def is_over(self) -> bool:
        """Whether the last round has ended, snapshot included, and every client has left or is absent."""
        federation, membership = self._experiment.config.federation, self.server_loop.membership
        return (
            self._rounds_ended == federation.rounds
            and len(membership.left.keys() | membership.absent) == federation.clients
        )

    def trained(self) -> dict[str, Tensor]:
        """The trained tensors of the unsplit model, by name, on the CPU."""
        first = {name: value.detach().cpu() for name, value in self._whole.held().items()}
        return first | {name: value.cpu() for name, value in self.server.trained().items()}

    def finish(self, memory: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Writes a finished run's results; returns the summary. `memory` has a row per measured process."""
        for row in memory:
            self.events.write("memory", **row)
        self._save()
        if self._folder is not None:
            self._export(self._folder)
        return self._conclude("done", memory)

    def fail(self, reason: str) -> None:
        """Writes the summary of a failed run, with the reason."""
        self._conclude("failed", reason=reason)

    def diverged(self, error: Diverged) -> Diverged:
        """Writes the summary of a diverged run; returns the error with the last finite checkpoint's path."""
        rounds = self._checkpoints.rounds() if self._checkpoints is not None else []
        last = "there is no earlier checkpoint"
        if self._checkpoints is not None and rounds:
            last = f"the last finite checkpoint is {self._checkpoints.path(rounds[-1])}"
        whole = Diverged(f"{error}; {last}")
        self._conclude("diverged", reason=str(whole))
        return whole

    def _conclude(
        self, status: str, memory: list[Mapping[str, Any]] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Writes the summary and sends it to the trackers."""
        summary = self.summary(status, memory or []) | self._probes.summary() | more
        if self._tracking is not None and (failures := self._tracking.finish(summary)):
            summary["tracking_failures"] = failures
        if self._folder is not None:
            write_json(self._folder / "summary.json", summary)
        return summary

    def _export(self, folder: Path) -> None:
        config, trained, whole = self._experiment.config, self.trained(), self._whole.exported()
        name, adapter, cut = config.model.name, config.adapter, config.partition.cut
        if is_full(adapter):
            export_model(folder / MODEL_FOLDER, trained, whole=whole, source=resolve(name))
            return
        model = hub_name(name)
        export_adapter(folder / "adapter", trained, whole=whole, model_name=model, adapter=adapter, cut=cut)

    def summary(self, status: str, memory: list[Mapping[str, Any]]) -> dict[str, Any]:
        """The run's summary as a table."""
        config, final = self._experiment.config, dict(self._last)

        def peak(side: str) -> int | None:
            peaks = [row["peak_bytes"] - row["base_bytes"] for row in memory if row["side"] == side]
            return max(peaks) if peaks else None

        return {
            "status": status,
            "method": config.method.name,
            "model": config.model.name,
            "model_type": config_table(resolve(config.model.name))["model_type"],
            "task": config.task.name,
            "transport": config.transport.name,
            "rounds": config.federation.rounds,
            "clients": config.federation.clients,
            "final": final,
            **_spent(self.ledger),
            "virtual_s": final.get("finish_s", 0.0),
            "wall_s": time.monotonic() - self._began_s,
            "client_flops": self.ledger.total_flops("client"),
            "server_flops": self.ledger.total_flops("server"),
            "client_peak_bytes": peak("client"),
            "server_peak_bytes": peak("server"),
            "chosen": list(self.ledger.chosen),
            "mean_staleness": self.ledger.mean_staleness(),
            "codecs": codec_rows(self._meter, self.server_loop.membership.left.values()),
        }

    def __enter__(self) -> Self:
        """Starts the trackers; raises ConfigError if one of them cannot start."""
        if self._track is not None:
            try:
                self._tracking = self._track(self.first_round)
            except BaseException:
                self.events.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.events.__exit__(kind, error, trace)
        if self._tracking is not None:
            self._tracking.close()

    def ended(self, end: RoundEnd) -> None:
        """Evaluates a round, writes its metrics and takes a snapshot; see Watcher."""
        config = self._experiment.config
        row: dict[str, Any] = {"round": end.round, "train_loss": end.train_loss, "finish_s": end.finish_s}
        row["wall_s"] = time.monotonic() - self._round_began_s
        confusion = None
        is_last = end.round + 1 == config.federation.rounds
        if config.eval.every and (is_last or (end.round + 1) % config.eval.every == 0):
            scores, confusion = self._whole.measured(self.server.trained())
            row |= scores
        self._probes.ended(end.round, self.events)
        self._round_began_s = time.monotonic()
        self.events.write("round", **row, **({"confusion": confusion} if is_last and confusion else {}))
        self._screen.measured(row)
        if self._tracking is not None:
            self._tracking.log(end.round, _tracked(row, self.ledger))
        self._last = row
        self._check_finite(row)
        self.ledger.close(end.round)  # except this one, whose last replies are still in flight
        every = config.fault_tolerance.checkpoint_every
        if self._checkpoints is not None and every and (end.round + 1) % every == 0:
            self._snapshot(end.round)
        self._rounds_ended = end.round + 1  # last: another thread waits for it to finish the run

    def all_began(self, round_index: int) -> None:
        """Saves the snapshot after the round before, now that every client has saved its own; see Watcher."""
        self._save()

    def _check_finite(self, row: Mapping[str, Any]) -> None:
        """Raises Diverged if losses or trained tensors are not finite, or a loss exceeds train.max_loss."""
        bound, number = self._experiment.config.train.max_loss, row["round"]
        for name, what in (("train_loss", "training"), ("eval_loss", "held-out")):
            loss = row.get(name)
            if loss is not None and not loss <= bound:
                beyond = f"beyond train.max_loss of {bound:g}"
                raise Diverged(f"the {what} loss after round {number} is {loss}, {beyond}: {ADVICE}")
        refuse_not_finite(self.server.trained(), f"after round {number}")

    def _save(self) -> None:
        if self._unsaved is not None and self._checkpoints is not None:
            self._checkpoints.put(*self._unsaved)
            self._unsaved = None

    def _snapshot(self, round_index: int) -> None:
        server_loop = self.server_loop.state()
        if server_loop is not None:
            server = self.server.state()
            refuse_not_finite(server, f"of the server after round {round_index}")
            tensors = under("server", server) | under("server_loop", server_loop)
            tensors |= under("ledger", self.ledger.state())
            metadata = {"events_bytes": str(self.events.size_bytes), "last": dumps(self._last)}
            self._unsaved = round_index, tensors, self._origin | metadata

    def _restore(self, newest: Checkpoint) -> None:
        self.server.restore(part(newest.tensors, "server"))
        self.server_loop.restore(part(newest.tensors, "server_loop"))
        self.ledger.restore(part(newest.tensors, "ledger"))
        self.events.forget_after(int(newest.metadata["events_bytes"]))
        self._last = json.loads(newest.metadata["last"])
        self.first_round = self._rounds_ended = newest.round + 1


def _spent(ledger: Ledger) -> dict[str, float]:
    """The traffic totals so far, by the names of the summary."""
    total = ledger.total()
    return {
        "bytes_up": ledger.total("up").payload_bytes,
        "bytes_down": ledger.total("down").payload_bytes,
        "packets": total.packets,
        "retransmissions": total.retransmissions,
        "lost_messages": total.lost,
        "airtime_s": total.airtime_s,
        "energy_j": total.energy_j,
    }


def _tracked(row: Mapping[str, Any], ledger: Ledger) -> dict[str, float]:
    """The metrics of a round's row, with the totals so far."""
    measured = {name: value for name, value in row.items() if name != "round" and value is not None}
    return measured | _spent(ledger) | {f"{side}_flops": ledger.total_flops(side) for side in SIDES}


def write_json(path: Path, value: Any) -> None:
    """Writes the value as a JSON file atomically; null for a number that is not finite."""
    checkpoint.write_whole(path, (dumps(value, indent=2) + "\n").encode())
