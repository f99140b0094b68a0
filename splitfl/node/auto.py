"""The controller `auto`: cut or rank for each client, and the method, by what a round would cost that client.

What a round costs is rehearsed (see `rehearsal`, and `splitfl plan`): its bytes, its radiated energy, its
seconds (the client's work and the server's for it over their rates, and both ways on the air), and the memory
of the client. Among what fits a client's memory and the budget the largest rank is taken, or the cut whose
round is over soonest (of equals the lowest). Methods are tried in the order given; the first that every
client can follow is taken. A client's pieces are loaded once, so what is chosen holds for all rounds; of
other things, codecs among them, there is nothing to choose from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from splitfl.config import RunConfig
from splitfl.errors import ConfigError, CutError
from splitfl.methods.registry import method, without_unread
from splitfl.node.build import Site
from splitfl.node.rehearsal import Rehearsal, rehearse

_ROUNDS = 2
"""Rehearsed: what comes down as a round begins comes down from the second one on."""

_UNITS: Mapping[str, str] = {"seconds": "s", "bytes": "B", "joules": "J"}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One value for one client: what its round spends of the budget, its seconds, and the client's memory."""

    value: int
    spent: float
    seconds: float
    memory_bytes: int


def decided(config: RunConfig) -> RunConfig:
    """The same settings with `auto`'s choices and, in `auto.chosen`, its reasons; as they are without it.

    Raises ConfigError, with what each method fails at, where no method fits.
    """
    if config.auto.budget == "none":
        return config
    memory, clients = config.auto.client_memory_bytes, config.federation.clients
    if len(memory) not in (0, clients):
        raise ConfigError(
            f"auto.client_memory_bytes must name one for each of the {clients} clients, got {len(memory)}"
        )
    refused = []
    for name in config.auto.methods or (config.method.name,):
        method(name)
        try:
            return _decided_for(_with_method(config, name))
        except (ConfigError, CutError) as error:
            refused.append(f"{name}: {error}")
    raise ConfigError(f"auto finds nothing within its budget: {'; '.join(refused)}")


def _with_method(config: RunConfig, name: str) -> RunConfig:
    if name == config.method.name:
        return config
    return without_unread(replace(config, method=replace(config.method, name=name)))


def _decided_for(config: RunConfig) -> RunConfig:
    auto, clients = config.auto, range(config.federation.clients)
    table = _options(config)
    own = f"federation.client_{auto.chooses}s" in method(config.method.name).reads
    chosen = [_best(config, table[client], client) for client in clients]
    if not own:  # the method has one value for all of them
        common = _common(config, table)
        chosen = [next(one for one in table[client] if one.value == common) for client in clients]
    reasons = tuple(_reason(config, client, chosen[client], table[client]) for client in clients)
    values = tuple(one.value for one in chosen)
    settled = _with(config, values)
    return replace(settled, auto=replace(auto, budget="none", chosen=reasons))


def _options(config: RunConfig) -> list[list[Option]]:
    """For every client what each value would cost it, the smallest value first."""
    found: list[list[Option]] = [[] for _ in range(config.federation.clients)]
    for value in _values(config):
        values = (value,) * config.federation.clients
        trial = replace(_with(config, values), auto=replace(config.auto, budget="none"))
        trial = replace(trial, federation=replace(trial.federation, rounds=_ROUNDS))
        rehearsal = rehearse(Site.of(trial))
        for client, options in enumerate(found):
            options.append(_option(config, rehearsal, client, value))
    return found


def _values(config: RunConfig) -> Sequence[int]:
    if config.auto.chooses == "cut":
        return range(1, Site.of(replace(config, auto=replace(config.auto, budget="none"))).num_blocks)
    ranks, rank = [], config.adapter.head.rank
    while rank:
        ranks.append(rank)
        rank //= 2
    return ranks[::-1]


def _with(config: RunConfig, values: tuple[int, ...]) -> RunConfig:
    """These settings with a value for each client."""
    reads, federation = method(config.method.name).reads, config.federation
    if config.auto.chooses == "cut":
        config = replace(config, partition=replace(config.partition, cut=min(values)))
        own = len(set(values)) > 1 and "federation.client_cuts" in reads
        return replace(config, federation=replace(federation, client_cuts=values)) if own else config
    if "federation.client_ranks" in reads:
        return replace(config, federation=replace(federation, client_ranks=values))
    head = config.adapter.head
    scaled = replace(head, rank=values[0], alpha=head.alpha / head.rank * values[0])
    return replace(config, adapter=replace(config.adapter, head=scaled))


def _option(config: RunConfig, rehearsal: Rehearsal, client: int, value: int) -> Option:
    ledger, federation, last = rehearsal.ledger, config.federation, _ROUNDS - 1
    ways = [ledger.traffic[last, client, way] for way in ("up", "down")]
    rate = federation.client_flops[client] if federation.client_flops else config.client.flops
    seconds = sum(one.airtime_s for one in ways)
    seconds += ledger.flops[last, "client", client] / rate
    seconds += ledger.flops[last, "server", client] / config.server.flops
    spent = {
        "seconds": seconds,
        "bytes": float(sum(one.payload_bytes for one in ways)),
        "joules": sum(one.energy_j for one in ways),
    }[config.auto.budget]
    return Option(
        value=value, spent=spent, seconds=seconds, memory_bytes=rehearsal.clients[client].total_bytes
    )


def _fits(config: RunConfig, option: Option, client: int) -> bool:
    memory = config.auto.client_memory_bytes
    return option.spent <= config.auto.most and (not memory or option.memory_bytes <= memory[client])


def _best(config: RunConfig, options: Sequence[Option], client: int) -> Option:
    """The largest rank that fits this client, or of the cuts that do the one whose round is over soonest."""
    fitting = [one for one in options if _fits(config, one, client)]
    if not fitting:
        least = min(options, key=lambda one: (one.spent, one.memory_bytes))
        raise ConfigError(
            f"client {client} has no {config.auto.chooses} that fits: the least is {config.auto.chooses} "
            f"{least.value} with {_shown(config, least)}, against {_limits(config, client)}"
        )
    if config.auto.chooses == "rank":
        return max(fitting, key=lambda one: one.value)
    return min(fitting, key=lambda one: (one.seconds, one.value))


def _common(config: RunConfig, table: Sequence[Sequence[Option]]) -> int:
    """The value that fits every client: the largest rank, or the cut whose slowest client is done soonest."""
    columns: list[tuple[Option, ...]] = [
        column
        for column in zip(*table, strict=True)
        if all(_fits(config, one, client) for client, one in enumerate(column))
    ]
    if not columns:
        raise ConfigError(
            f"no {config.auto.chooses} fits all clients, and this method has one for all of them"
        )
    if config.auto.chooses == "rank":
        return max(column[0].value for column in columns)
    return min(columns, key=lambda column: (max(one.seconds for one in column), column[0].value))[0].value


def _reason(config: RunConfig, client: int, chosen: Option, options: Sequence[Option]) -> str:
    chooses, fitting = config.auto.chooses, [one for one in options if _fits(config, one, client)]
    what = "the largest of" if chooses == "rank" else "the soonest over of"
    return (
        f"client {client}: {config.method.name} with {chooses} {chosen.value}, {what} {len(fitting)} that "
        f"fit among {len(options)}: a round takes {_shown(config, chosen)}, against {_limits(config, client)}"
    )


def _shown(config: RunConfig, option: Option) -> str:
    unit = _UNITS[config.auto.budget]
    seconds = "" if config.auto.budget == "seconds" else f" in {option.seconds:.4g} s"
    return f"{option.spent:.4g} {unit}{seconds} and {option.memory_bytes / 2**20:.4g} MiB"


def _limits(config: RunConfig, client: int) -> str:
    memory = config.auto.client_memory_bytes
    room = f"{memory[client] / 2**20:.4g} MiB" if memory else "memory without a limit"
    return f"{config.auto.most:.4g} {_UNITS[config.auto.budget]} and {room}"
