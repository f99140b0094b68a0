"""A run as the server's side keeps it: server_loop, ledger, measurements, and the folder they go to."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from torch import Tensor

from splitfl.accounting.ledger import SIDES, Ledger
from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import held, install
from splitfl.adapters.model_export import MODEL_FOLDER, export_model, is_full
from splitfl.core import checkpoint
from splitfl.core.checkpoint import Checkpoint, CheckpointStore
from splitfl.core.errors import Diverged
from splitfl.core.events import Events
from splitfl.core.json_text import dumps
from splitfl.core.state import part, under
from splitfl.models.source import hub_name, resolve
from splitfl.server.assemble import server_loop_of
from splitfl.server.evaluate import measured
from splitfl.server.exchange import ADVICE, refuse_not_finite
from splitfl.server.origin import origin_of, refuse_other_origin
from splitfl.server.protocols import Controller, RoundEnd
from splitfl.setup.experiment import Experiment


class Screen(Protocol):
    """Shows a run to a person, or to nobody."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """The server has seen so many more training steps of this client."""

    def measured(self, row: Mapping[str, Any]) -> None:
        """What was measured at the end of a round."""


class Tracking(Protocol):
    """Receives what was measured beside the run's own files; see `splitfl.run_folder.trackers`."""

    def log(self, round_index: int, metrics: Mapping[str, float]) -> None:
        """Receives the metrics after a round."""

    def finish(self, summary: Mapping[str, Any]) -> list[str]:
        """Receives the summary of a run that ended; returns a sentence about each backend that failed."""

    def close(self) -> None: ...


class Run:
    """Everything of a run but its transport.

    Hand frames to `server_loop`; `finish` when every client has left. Writes `metrics.jsonl`
    as it goes, a checkpoint each round, and at the end `adapter/`, or `model/` where that was
    trained whole, and `summary.json`.
    """

    def __init__(
        self,
        site: Experiment,
        folder: Path | None,
        screen: Screen,
        kept: Checkpoint | None = None,
        controller: Callable[[Ledger, Events], Controller] | None = None,
        track: Callable[[int], Tracking] | None = None,
    ) -> None:
        """`folder` None keeps nothing on disk; a run that was stopped continues from what was `kept`.

        `controller` makes the controller of a run that is planned from round to round, `track` starts the
        experiment trackers from a round on. Raises ConfigError for a checkpoint of another run.
        """
        self._site = site
        self._whole = site.whole()
        self._origin = origin_of(site, self._whole)
        if kept is not None:
            refuse_other_origin(kept, self._origin)
        self._folder = folder
        self._screen = screen
        self._track = track
        self._tracking: Tracking | None = None
        self.stepped = screen.stepped  # see Watcher
        self._began_s = self._round_began_s = time.monotonic()
        self._last: dict[str, Any] = {}
        self.ledger = Ledger(chosen=site.config.auto.chosen)
        self.server = site.server_method()
        self.events = Events(folder / "metrics.jsonl" if folder is not None else None)
        if kept is None:
            self.events.forget_after(0)
        made = controller(self.ledger, self.events) if controller is not None else None
        self.server_loop = server_loop_of(site, self.server, self.ledger, self.events, self, controller=made)
        self._shelf = CheckpointStore(folder / "checkpoint") if folder is not None else None
        self._held: tuple[int, dict[str, Tensor], dict[str, str]] | None = None
        self.first_round = 0
        if kept is not None:
            self._go_on_from(kept)

    @property
    def is_over(self) -> bool:
        """Whether the last round has been measured and every client has taken leave or is gone."""
        federation = self._site.config.federation
        is_measured = self._last.get("round", -1) + 1 == federation.rounds
        return (
            is_measured
            and len(self.server_loop.membership.left.keys() | self.server_loop.membership.absent)
            == federation.clients
        )

    def trained(self) -> dict[str, Tensor]:
        """All that learning changes of the unsplit model, as it stands now."""
        first = {name: value.detach().cpu() for name, value in held(self._whole).items()}
        return first | {name: value.cpu() for name, value in self.server.trained().items()}

    def finish(self, memory: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Writes what remains of a finished run; `memory` has a row for each measured process."""
        for row in memory:
            self.events.write("memory", **row)
        self._put()
        if self._folder is not None:
            self._export(self._folder)
        return self._conclude("done", memory)

    def fail(self, reason: str) -> None:
        """Writes in the folder that the run failed, and why."""
        self._conclude("failed", reason=reason)

    def diverged(self, error: Diverged) -> Diverged:
        """Says in the folder that the run has diverged; the error, with the checkpoint to continue from."""
        rounds = self._shelf.rounds() if self._shelf is not None else []
        kept = "no checkpoint is from before that"
        if self._shelf is not None and rounds:
            kept = f"the last finite checkpoint is {self._shelf.path(rounds[-1])}"
        whole = Diverged(f"{error}; {kept}")
        self._conclude("diverged", reason=str(whole))
        return whole

    def _conclude(
        self, status: str, memory: list[Mapping[str, Any]] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Writes the summary and hands it to the trackers."""
        summary = self.summary(status, memory or []) | more
        if self._tracking is not None and (failures := self._tracking.finish(summary)):
            summary["tracking_failures"] = failures
        if self._folder is not None:
            write_json(self._folder / "summary.json", summary)
        return summary

    def _export(self, folder: Path) -> None:
        config, name = self._site.config, self._site.config.model.name
        if is_full(config.adapter):
            export_model(folder / MODEL_FOLDER, self.trained(), whole=self._whole, source=resolve(name))
        else:
            export_adapter(
                folder / "adapter",
                self.trained(),
                whole=self._whole,
                model_name=hub_name(name),
                adapter=config.adapter,
                cut=config.partition.cut,
            )

    def summary(self, status: str, memory: list[Mapping[str, Any]]) -> dict[str, Any]:
        """The run in one table."""
        config, final = self._site.config, dict(self._last)

        def peak(side: str) -> int | None:
            peaks = [row["peak_bytes"] - row["base_bytes"] for row in memory if row["side"] == side]
            return max(peaks) if peaks else None

        return {
            "status": status,
            "method": config.method.name,
            "model": config.model.name,
            "model_type": self._whole.model.config.model_type,
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
        }

    def __enter__(self) -> Self:
        """Starts the trackers; raises ConfigError where one of them cannot start."""
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
        """Measures, keeps and shows a round; see Watcher."""
        config = self._site.config
        row: dict[str, Any] = {"round": end.round, "train_loss": end.train_loss, "finish_s": end.finish_s}
        row["wall_s"] = time.monotonic() - self._round_began_s
        confusion = None
        is_last = end.round + 1 == config.federation.rounds
        if config.eval.every and (is_last or (end.round + 1) % config.eval.every == 0):
            install(self._whole, self.server.trained())
            scores, confusion = measured(self._whole.model, self._site)
            row |= scores
        self._round_began_s = time.monotonic()
        self.events.write("round", **row, **({"confusion": confusion} if is_last and confusion else {}))
        self._screen.measured(row)
        if self._tracking is not None:
            self._tracking.log(end.round, _tracked(row, self.ledger))
        self._last = row
        self._check_finite(row)
        self.ledger.close(end.round)  # but for this one, whose last answers are still on their way
        every = config.fault_tolerance.checkpoint_every
        if self._shelf is not None and every and (end.round + 1) % every == 0:
            self._hold(end.round)

    def all_began(self, round_index: int) -> None:
        """Keeps what the round before came to, now that every client has kept its own; see Watcher."""
        self._put()

    def _check_finite(self, row: Mapping[str, Any]) -> None:
        """Diverged for a round whose figures or trained tensors are not finite, or beyond all bounds."""
        bound, number = self._site.config.train.max_loss, row["round"]
        for name, what in (("train_loss", "training"), ("eval_loss", "held-out")):
            loss = row.get(name)
            if loss is not None and not loss <= bound:
                beyond = f"beyond train.max_loss of {bound:g}"
                raise Diverged(f"the {what} loss after round {number} is {loss}, {beyond}: {ADVICE}")
        refuse_not_finite(self.server.trained(), f"after round {number}")

    def _put(self) -> None:
        if self._held is not None and self._shelf is not None:
            self._shelf.put(*self._held)
            self._held = None

    def _hold(self, round_index: int) -> None:
        server_loop = self.server_loop.state()
        if server_loop is not None:
            server = self.server.state()
            refuse_not_finite(server, f"of the server after round {round_index}")
            tensors = under("server", server) | under("server_loop", server_loop)
            tensors |= under("ledger", self.ledger.state())
            notes = {
                **self._origin,
                "events_bytes": str(self.events.size_bytes),
                "last": dumps(self._last),
            }
            self._held = round_index, tensors, notes

    def _go_on_from(self, kept: Checkpoint) -> None:
        self.server.restore(part(kept.tensors, "server"))
        self.server_loop.restore(part(kept.tensors, "server_loop"))
        self.ledger.restore(part(kept.tensors, "ledger"))
        self.events.forget_after(int(kept.notes["events_bytes"]))
        self._last = json.loads(kept.notes["last"])
        self.first_round = kept.round + 1


def _spent(ledger: Ledger) -> dict[str, float]:
    """What has crossed the links so far, under the names of the summary."""
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
    """The value as a JSON file that appears whole or not at all; null for a number that is not finite."""
    checkpoint.write_whole(path, (dumps(value, indent=2) + "\n").encode())
