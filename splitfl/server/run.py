"""A run as the server's side keeps it: station, ledger, measurements, and the folder they go to."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from torch import Tensor

from splitfl.accounting.ledger import Ledger
from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import held, install
from splitfl.adapters.model_export import MODEL_FOLDER, export_model, is_full
from splitfl.config.experiment_file import as_dict
from splitfl.core import checkpoint
from splitfl.core.checkpoint import Checkpoint, CheckpointStore
from splitfl.core.confusion import as_triples
from splitfl.core.errors import ConfigError, Diverged
from splitfl.core.events import Events
from splitfl.core.json_text import dumps
from splitfl.core.state import State, not_finite, part, under
from splitfl.methods.parts.divergence_guard import ADVICE
from splitfl.models.cut import Piece
from splitfl.models.source import hub_name, resolve
from splitfl.server.assemble import station_of
from splitfl.server.evaluate import outside, predicted
from splitfl.server.exchange import Controller, RoundEnd
from splitfl.setup.experiment import Experiment


class Screen(Protocol):
    """Shows a run to a person, or to nobody."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """The server has seen so many more training steps of this client."""

    def measured(self, row: Mapping[str, Any]) -> None:
        """What was measured at the end of a round."""


class Run:
    """Everything of a run but its transport.

    Hand frames to `station`; `finish` when every client has left. Writes `metrics.jsonl`
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
    ) -> None:
        """`folder` None keeps nothing on disk; a run that was stopped goes on from what was `kept`.

        `controller` makes the one of a run whose settings leave a choice from round to round. Raises
        ConfigError for what another run has kept.
        """
        self._site = site
        self._whole = site.whole()
        self._origin = _origin(site, self._whole)
        if kept is not None:
            _refuse_other_origin(kept, self._origin)
        self._folder = folder
        self._screen = screen
        self._began_s = self._round_began_s = time.monotonic()
        self._last: dict[str, Any] = {}
        self.ledger = Ledger(chosen=site.config.auto.chosen)
        self.server = site.server_method()
        self.events = Events(folder / "metrics.jsonl" if folder is not None else None)
        if kept is None:
            self.events.forget_after(0)
        made = controller(self.ledger, self.events) if controller is not None else None
        self.station = station_of(site, self.server, self.ledger, self.events, self, controller=made)
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
        return is_measured and len(self.station.left.keys() | self.station.away) == federation.clients

    def trained(self) -> dict[str, Tensor]:
        """All that learning changes of the unsplit model, as it stands now."""
        first = {name: value.detach().cpu() for name, value in held(self._whole).items()}
        return first | {name: value.cpu() for name, value in self.server.trained().items()}

    def finish(self, memory: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Writes what remains of a finished run; `memory` has a row for each measured process."""
        for row in memory:
            self.events.write("memory", **row)
        self._put()
        summary = self.summary("done", memory)
        if self._folder is not None:
            self._export(self._folder)
            write_json(self._folder / "summary.json", summary)
        return summary

    def fail(self, reason: str) -> None:
        """Says in the folder that the run did not end well, and why."""
        if self._folder is not None:
            write_json(self._folder / "summary.json", self.summary("failed", []) | {"reason": reason})

    def diverged(self, error: Diverged) -> Diverged:
        """Says in the folder that the run has diverged; the error, with what there is to go on from."""
        rounds = self._shelf.rounds() if self._shelf is not None else []
        kept = "no checkpoint is from before that"
        if self._shelf is not None and rounds:
            kept = f"the last finite checkpoint is {self._shelf.path(rounds[-1])}"
        whole = Diverged(f"{error}; {kept}")
        if self._folder is not None:
            write_json(self._folder / "summary.json", self.summary("diverged", []) | {"reason": str(whole)})
        return whole

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
        config, total = self._site.config, self.ledger.total()
        final = dict(self._last)

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
            "bytes_up": self.ledger.total("up").payload_bytes,
            "bytes_down": self.ledger.total("down").payload_bytes,
            "packets": total.packets,
            "retransmissions": total.retransmissions,
            "lost_messages": total.lost,
            "airtime_s": total.airtime_s,
            "energy_j": total.energy_j,
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.events.__exit__(kind, error, trace)

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Watcher."""
        self._screen.stepped(round_index, client, steps)

    def ended(self, end: RoundEnd) -> None:
        """Measures, keeps and shows a round; see Watcher."""
        config = self._site.config
        now_s = time.monotonic()
        row: dict[str, Any] = {"round": end.round, "train_loss": end.train_loss, "finish_s": end.finish_s}
        row["wall_s"] = now_s - self._round_began_s
        confusion: dict[str, Any] = {}
        is_last = end.round + 1 == config.federation.rounds
        if config.eval.every and (is_last or (end.round + 1) % config.eval.every == 0):
            install(self._whole, self.server.trained())
            found = predicted(self._whole.model, self._site, self._whole.model.device)
            row |= found.scores(outside(self._site.task))
            if is_last and found.confusion is not None:
                confusion["confusion"] = as_triples(found.confusion)
        self._round_began_s = time.monotonic()
        self.events.write("round", **row, **confusion)
        self._screen.measured(row)
        self._last = row
        self._check_finite(row)
        self.ledger.close(end.round)  # but for this one, whose last answers are still on their way
        every = config.fault_tolerance.checkpoint_every
        if self._shelf is not None and every and (end.round + 1) % every == 0:
            self._hold(end.round)

    def begun(self, round_index: int) -> None:
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
        _refuse_not_finite(self.server.trained(), f"after round {number}")

    def _put(self) -> None:
        if self._held is not None and self._shelf is not None:
            self._shelf.put(*self._held)
            self._held = None

    def _hold(self, round_index: int) -> None:
        station = self.station.state()
        if station is not None:
            server = self.server.state()
            _refuse_not_finite(server, f"of the server after round {round_index}")
            tensors = under("server", server) | under("station", station)
            tensors |= under("ledger", self.ledger.state())
            notes = {
                **self._origin,
                "events_bytes": str(self.events.size_bytes),
                "last": dumps(self._last),
            }
            self._held = round_index, tensors, notes

    def _go_on_from(self, kept: Checkpoint) -> None:
        self.server.restore(part(kept.tensors, "server"))
        self.station.restore(part(kept.tensors, "station"))
        self.ledger.restore(part(kept.tensors, "ledger"))
        self.events.forget_after(int(kept.notes["events_bytes"]))
        self._last = json.loads(kept.notes["last"])
        self.first_round = kept.round + 1


def _refuse_not_finite(tensors: State, when: str) -> None:
    if (name := not_finite(tensors)) is not None:
        raise Diverged(f"{name} {when} holds numbers that are not finite: {ADVICE}")


def _origin(site: Experiment, whole: Piece) -> dict[str, str]:
    """Digests of what decides a run's bits: its settings, its data and the weights that it starts from.

    Where and how messages travel decides no bit.
    """
    settings = as_dict(site.config)
    del settings["transport"]
    tables = {"settings": settings, "weights": dict(whole.checksums)}
    digests = {
        name: hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
        for name, table in tables.items()
    }
    return digests | {"data": site.data_digest()}


def _refuse_other_origin(kept: Checkpoint, origin: Mapping[str, str]) -> None:
    what = {
        "settings": "the settings of the run",
        "data": "its data, their classes or who holds which of them",
        "weights": "the weights of the model that it started from",
    }
    for name, digest in origin.items():
        if kept.notes.get(name) != digest:
            raise ConfigError(
                f"the checkpoint after round {kept.round + 1} cannot be continued: {what[name]} changed "
                "since it was written. Restore them, or start a new run"
            )


def write_json(path: Path, value: Any) -> None:
    """The value as a JSON file that appears whole or not at all; null for a number that is not finite."""
    checkpoint.write_whole(path, (dumps(value, indent=2) + "\n").encode())
