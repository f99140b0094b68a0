"""What the controller can choose from: for every client, what a round by each plan costs it.

It is rehearsed (see `rehearsal`, and `splitfl plan`): bytes, airtime, radiated energy, the client's work and
the server's for it, and the client's memory.
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
class Memory:
    """What a client's pieces take, in bytes; `saved_bytes` is what autograd keeps of its largest batch."""

    parameter_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    saved_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.parameter_bytes + self.gradient_bytes + self.optimiser_bytes + self.saved_bytes


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a client works, in FLOP/s, and by how much its link differs from the rehearsed one.

    `airtime` and `energy` are ratios for a byte, by direction.
    """

    flops: float
    airtime: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 1.0))
    energy: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 1.0))


@dataclass(frozen=True, kw_only=True)
class Option:
    """One plan for one client, and what its round costs; `crosses` is by direction."""

    plan: Plan
    crosses: Mapping[str, Traffic]
    client_flops: float
    server_flops: float
    memory: Memory

    def seconds(self, pace: Pace, server_flops: float) -> float:
        """Both ways on the air, the client's work and the server's for it."""
        airtime_s = sum(one.airtime_s * pace.airtime[way] for way, one in self.crosses.items())
        return airtime_s + self.client_flops / pace.flops + self.server_flops / server_flops

    def spends(self, budget: str, pace: Pace, server_flops: float) -> float:
        """Of a budget of `seconds`, `bytes` or `joules`."""
        if budget == "seconds":
            return self.seconds(pace, server_flops)
        if budget == "bytes":
            return float(sum(one.payload_bytes for one in self.crosses.values()))
        return sum(one.energy_j * pace.energy[way] for way, one in self.crosses.items())


Table = Sequence[Sequence[Option]]
"""Every client's options."""


def declared(config: RunConfig) -> list[Pace]:
    """Every client's pace by the settings."""
    rates = config.federation.client_flops or (config.client.flops,) * config.federation.clients
    return [Pace(flops=rate) for rate in rates]


def in_room(auto: AutoConfig, client: int, options: Sequence[Option], held: int) -> list[Option]:
    """What a client can do in its memory that holds a head of so many blocks.

    It holds that head, and what any of its methods needs beside it, in every round; and what its optimiser
    remembers, once it has learnt by a method with one.
    """
    options = [one for one in options if one.plan.cut <= held]
    if not (auto.client_memory_bytes and options):
        return options
    rest = auto.client_memory_bytes[client] - max(one.memory.parameter_bytes for one in options)

    def fitting(moments: int) -> list[Option]:
        kept = ((one, max(moments, one.memory.optimiser_bytes)) for one in options)
        return [
            one
            for one, remembered in kept
            if remembered + one.memory.gradient_bytes + one.memory.saved_bytes <= rest
        ]

    return fitting(max((one.memory.optimiser_bytes for one in fitting(0)), default=0))


def preference(auto: AutoConfig, plan: Plan, seconds: float) -> tuple[float, ...]:
    """The least is taken: the first method, the first codec, the largest rank, the soonest over."""
    method = auto.methods.index(plan.method) if plan.method in auto.methods else 0
    codec = auto.codecs.index(plan.codec) if plan.codec in auto.codecs else 0
    return method, codec, -plan.rank, seconds, plan.cut


def shown(plan: Plan) -> str:
    """A plan as a person reads it."""
    codec = "" if plan.codec == "none" else f", {plan.codec}"
    return f"{plan.method} with cut {plan.cut}, rank {plan.rank}{codec}"
