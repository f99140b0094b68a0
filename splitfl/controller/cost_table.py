"""The controller's options: the costs of a round under each plan, for every client.

A dry run (see `dry_run`, and `splitfl plan`) gives bytes, airtime, radiated energy, the FLOPs of the client
and of the server for it, and the client's memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from channel.core.link import DIRECTIONS
from splitfl.accounting.ledger import Traffic
from splitfl.config import AutoConfig, RunConfig
from splitfl.core.messages import Plan

UNITS: Final[Mapping[str, str]] = {"seconds": "s", "bytes": "B", "joules": "J"}


@dataclass(frozen=True, kw_only=True)
class ClientMemory:
    """Memory of a client's pieces in bytes; `saved_bytes` are its largest batch's saved tensors.

    `codec_bytes` are the adapters, errors and rows that differences are encoded with.
    """

    parameter_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    saved_bytes: int
    codec_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """The sum of all parts."""
        trained = self.parameter_bytes + self.gradient_bytes + self.optimiser_bytes
        return trained + self.saved_bytes + self.codec_bytes


@dataclass(frozen=True, kw_only=True)
class Pace:
    """A client's speed in FLOP/s, and the ratio of its link's costs to those of the dry run.

    `airtime` and `energy` are ratios per byte, by direction.
    """

    flops: float
    airtime: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 1.0))
    energy: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 1.0))


@dataclass(frozen=True, kw_only=True)
class Option:
    """A plan for one client and the costs of its round; `crosses` has the traffic by direction."""

    plan: Plan
    crosses: Mapping[str, Traffic]
    client_flops: float
    server_flops: float
    memory: ClientMemory

    def seconds(self, pace: Pace, server_flops: float) -> float:
        """Airtime of both directions, the client's computation and the server's for it, in seconds."""
        airtime_s = sum(one.airtime_s * pace.airtime[direction] for direction, one in self.crosses.items())
        return airtime_s + self.client_flops / pace.flops + self.server_flops / server_flops

    def spends(self, budget: str, pace: Pace, server_flops: float) -> float:
        """The spending of a budget of `seconds`, `bytes` or `joules`."""
        if budget == "seconds":
            return self.seconds(pace, server_flops)
        if budget == "bytes":
            return float(sum(one.payload_bytes for one in self.crosses.values()))
        return sum(one.energy_j * pace.energy[direction] for direction, one in self.crosses.items())


Table = Sequence[Sequence[Option]]
"""Every client's options."""


def declared(config: RunConfig) -> list[Pace]:
    """Every client's pace as declared in the settings."""
    rates = config.federation.client_flops or (config.client.flops,) * config.federation.clients
    return [Pace(flops=rate) for rate in rates]


def fitting_memory(auto: AutoConfig, client: int, options: Sequence[Option], held: int) -> list[Option]:
    """The options within a client's memory if its head has `held` blocks.

    The parameters of all its options are resident in every round, and so is the optimiser state, once the
    client has trained by a method with one.
    """
    options = [one for one in options if one.plan.cut <= held]
    if not (auto.client_memory_bytes and options):
        return options
    free_bytes = auto.client_memory_bytes[client] - max(one.memory.parameter_bytes for one in options)

    def fitting(moments: int) -> list[Option]:
        with_state = ((one, max(moments, one.memory.optimiser_bytes)) for one in options)
        return [
            one
            for one, state_bytes in with_state
            if state_bytes + one.memory.gradient_bytes + one.memory.saved_bytes <= free_bytes
        ]

    return fitting(max((one.memory.optimiser_bytes for one in fitting(0)), default=0))


def preference(auto: AutoConfig, plan: Plan, seconds: float) -> tuple[float, ...]:
    """A sort key, smallest first: method, codec, largest rank, shortest time, cut."""
    method = auto.methods.index(plan.method) if plan.method in auto.methods else 0
    codec = auto.codecs.index(plan.codec) if plan.codec in auto.codecs else 0
    return method, codec, -plan.rank, seconds, plan.cut


def plan_text(plan: Plan) -> str:
    """A short description of a plan."""
    codec = "" if plan.codec == "none" else f", {plan.codec}"
    return f"{plan.method} with cut {plan.cut}, rank {plan.rank}{codec}"
