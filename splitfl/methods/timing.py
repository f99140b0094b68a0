"""Which methods can go on by which schedule, and why others cannot."""

from collections.abc import Mapping
from typing import Final

from splitfl.config import FederationConfig, RunConfig
from splitfl.config.data import SCHEDULES
from splitfl.core.errors import ConfigError
from splitfl.federation.staleness import at_own_pace

_REPLAYS: Final = (
    "its clients repeat each other's steps round by round, in one order, and so must be in the same round"
)

REASONS: Final[Mapping[str, str]] = {
    "hybrid": _REPLAYS,
    "hosl": _REPLAYS,
    "decomfl": _REPLAYS,
    "hiso": _REPLAYS,
    "fedkseed": _REPLAYS,
    "spry": "the adapters are divided anew in every round among clients that are all in it",
    "sfl-v1": "the clients' bodies become one when a round ends, which must find none of them in the middle",
    "frozen": "its clients send nothing in that could be taken over: it has no rounds to wait for",
}
"""Why the clients of these methods cannot go at their own pace; all others can."""

_WAITS: Final = ("rolora", "stack", "fedex", "svd")


def refuse_schedule(config: RunConfig) -> None:
    """ConfigError for a schedule that the method, or another setting, does not go with."""
    federation, name = config.federation, config.method.name
    _refuse_unread(federation)
    if federation.schedule == "synchronous":
        return
    if config.link.scenario:
        raise ConfigError(
            f"federation.schedule {federation.schedule!r} is for links that each client has to itself: leave "
            "link.scenario empty, or take 'synchronous'"
        )
    if not at_own_pace(federation):
        return
    if name in REASONS:
        raise ConfigError(
            f"the method {name!r} cannot work with federation.schedule {federation.schedule!r}: "
            f"{REASONS[name]}; it can with 'synchronous' and 'deadline'"
        )
    if federation.aggregator in _WAITS:
        raise ConfigError(
            f"federation.schedule {federation.schedule!r} puts together what is of different rounds, and "
            f"federation.aggregator {federation.aggregator!r} what is of one: take ffa or mean"
        )
    _refuse_rest(config)


def _refuse_unread(federation: FederationConfig) -> None:
    for name in sorted({name for names in SCHEDULES.values() for name in names}):
        got, default = getattr(federation, name), getattr(FederationConfig, name)
        if got != default and name not in SCHEDULES[federation.schedule]:
            readers = " and ".join(repr(one) for one, names in SCHEDULES.items() if name in names)
            raise ConfigError(
                f"federation.{name} is read with federation.schedule {readers} alone: leave it at {default}, "
                f"got {got}"
            )
    if federation.schedule == "deadline" and not federation.deadline_s:
        raise ConfigError("federation.schedule 'deadline' needs federation.deadline_s above 0.0, got 0.0")


def _refuse_rest(config: RunConfig) -> None:
    """What asks that there be rounds of all clients, or that one number of each is of the same size."""
    federation, fault_tolerance = config.federation, config.fault_tolerance
    found = {
        "federation.client_ranks": (federation.client_ranks, ()),
        "method.in_flight": (config.method.in_flight, 1),
        "analog.sum_adapters": (config.analog.sum_adapters, False),
        "fault_tolerance.on_loss": (fault_tolerance.on_loss, "abort"),
        "fault_tolerance.clients_per_round": (fault_tolerance.clients_per_round, 0),
        "fault_tolerance.quorum": (fault_tolerance.quorum, 0),
        "fault_tolerance.step_s": (fault_tolerance.step_s, 0.0),
        "fault_tolerance.round_s": (fault_tolerance.round_s, 0.0),
    }
    for setting, (got, must) in found.items():
        if got != must:
            raise ConfigError(
                f"{setting} does not go with federation.schedule {federation.schedule!r}, whose clients are "
                f"in different rounds: leave it at {must!r}, got {got!r}"
            )
