"""Interfaces of a server's watcher, its round planner and its computing devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from splitfl.core.messages import Begin, Plan
from splitfl.core.state import State
from splitfl.evaluation.whole_model import WholeModel
from splitfl.methods.parts.method import ServerMethod
from splitfl.wire.codec_meter import CodecMeter


@dataclass(frozen=True, kw_only=True)
class RoundEnd:
    """The end of a round: virtual time in seconds, and the mean training loss over samples.

    The loss is None if the server received none.
    """

    round: int
    finish_s: float
    train_loss: float | None


class Watcher(Protocol):
    """Receives notifications on a run's progress."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """The server has processed `steps` more training steps of this client."""

    def ended(self, end: RoundEnd) -> None:
        """A round is over."""

    def all_began(self, round_index: int) -> None:
        """Every client has started this round, and so has saved its state after the one before."""


class RoundPlanner(Protocol):
    """Plans each client's rounds; see splitfl.controller."""

    def plan(self, client: int) -> Plan:
        """The plan of this client's next round."""

    def begins(self, client: int, begin: Begin) -> None:
        """A client starts a round, and may give its measured speed."""

    def ended(self, round_index: int) -> None:
        """A round is over, and its costs are in the ledger."""

    def state(self) -> State:
        """See Stateful."""

    def restore(self, state: State) -> None:
        """See Stateful."""


class ServerSide(Protocol):
    """Computes the server's side of a run: on one device, or on several ranks."""

    @property
    def checksums(self) -> Mapping[str, str]:
        """The checksums of the model's initial weights."""

    def method(self, meter: CodecMeter) -> ServerMethod:
        """A new server's side of the method, whose codecs of adapters `meter` measures.

        The one before is used no longer.
        """

    def model(self) -> WholeModel:
        """The unsplit model that evaluates the last method made."""

    def memory(self) -> list[Mapping[str, Any]]:
        """The memory of further processes, as rows of the event `memory`."""
