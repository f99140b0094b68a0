"""What a run on the nodes will use and cost, before anything is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import joined
from splitfl.transport.mixed.spec import PARTS
from testbed.doctor.advice import OVERLAY, names
from testbed.doctor.examine import Examination, examine
from testbed.errors import CommandFailed
from testbed.inventory.nodes import Inventory
from testbed.remote.deployment import MIXED, rpc_port


@dataclass(frozen=True, kw_only=True)
class TransportChoice:
    """The transport of a run and why, each client's own by number, and the doctor's examination."""

    transport: str
    why: str
    clients: tuple[str, ...]
    examination: Examination

    def settings(self, inventory: Inventory) -> list[str]:
        """Overrides of an experiment's [transport]."""
        table: dict[str, Any] = {"name": "rpc" if self.transport == OVERLAY else self.transport}
        if self.transport == MIXED:
            broker = inventory.broker
            own: dict[str, dict[str, Any]] = {
                "rpc": {"rpc_port": rpc_port(inventory.listen_port)},
                "grpc": {"grpc_port": inventory.listen_port},
                "mqtt": {"broker": joined(broker.address, broker.port)} if broker else {},
            }
            table["clients"] = list(self.clients)
            table |= {key: value for name in self.clients for key, value in own[name].items()}
        return [f"transport.{key}={json.dumps(value)}" for key, value in table.items()]


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The transport of a run, and the planned costs by name.

    `transfer_s` is how long the slowest client's bytes take at its measured rates, None if there are none.
    """

    choice: TransportChoice
    costs: Mapping[str, float]
    transfer_s: float | None
    reserved_s: float

    @property
    def duration_s(self) -> float:
        """The longer of the virtual duration on the experiment's link and of the transfer, in seconds."""
        return max(self.costs["virtual_s"], self.transfer_s or 0.0)

    @property
    def is_too_short(self) -> bool:
        """Whether the run takes longer than the reservation, without deploying and collecting."""
        return 0 < self.reserved_s < self.duration_s


def choose_transport(inventory: Inventory, wanted: str | None) -> TransportChoice:
    """The transport for all nodes, or, if none works for all clients, each client's first that works.

    Raises ConfigError for a wanted one that does not work, CommandFailed if none works.
    """
    if wanted is not None and wanted not in names():
        raise ConfigError(f"--transport must be one of {', '.join(names())}, got {wanted!r}")
    examined = examine(inventory, is_installed=False)
    reasons = {one.transport: one.why for one in examined.advice}
    name = wanted or examined.use
    if not name:
        lines = [f"  {transport}: {why}" for transport, why in reasons.items()]
        raise CommandFailed("\n".join(["no transport works between these nodes:", *lines]))
    if not next(one.works for one in examined.advice if one.transport == name):
        raise ConfigError(f"--transport {name} does not work between these nodes: {reasons[name]}")
    clients = tuple(
        next(one for one in pair.works if one in PARTS) if name == MIXED else name for pair in examined.pairs
    )
    return TransportChoice(transport=name, why=reasons[name], clients=clients, examination=examined)


def run_plan(inventory: Inventory, choice: TransportChoice, costs: Mapping[str, float]) -> RunPlan:
    """The plan with the costs of a dry run."""
    return RunPlan(
        choice=choice,
        costs=costs,
        transfer_s=_transfer_s(choice.examination, costs),
        reserved_s=inventory.reservation.minutes * 60,
    )


def _transfer_s(examination: Examination, costs: Mapping[str, float]) -> float | None:
    up, down = (8 * costs[f"bytes_{way}_a_client_and_round"] * costs["rounds"] for way in ("up", "down"))
    rates = [pair.rates_bps for pair in examination.pairs if pair.rates_bps and min(pair.rates_bps) > 0]
    return max((max(up / one[0], down / one[1]) for one in rates), default=None)
