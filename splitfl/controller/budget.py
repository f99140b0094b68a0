"""The controller `auto` before a run begins: what each client is to do, by what a round would cost it.

What does not fit a client's memory or the budget is left out; of the rest it takes what `AutoConfig` says.
Once and for all: cuts, or ranks, of each client's own where the method knows them, else one for all; one
method and one codec. From round to round everything is each client's own: see `planner`.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from splitfl.accounting.ledger import Ledger
from splitfl.adapters.kind import LowRank
from splitfl.adapters.registry import side_rank
from splitfl.config import CodecConfig, RunConfig, changed
from splitfl.controller.controller import Controller
from splitfl.controller.cost_table import UNITS, Option, Pace, Table, declared, in_room, preference, shown
from splitfl.controller.dry_run import options_of, rehearsed, table_of
from splitfl.core.errors import ConfigError, CutError
from splitfl.core.events import Events
from splitfl.core.messages import Plan
from splitfl.methods.registry import choosable, method
from splitfl.methods.settings import with_method, without_unread


def decided(config: RunConfig) -> RunConfig:
    """The same settings with `auto`'s choices and, in `auto.chosen`, its reasons; as they are without it.

    Raises ConfigError, with what each method fails at, where no method fits.
    """
    auto, clients = config.auto, config.federation.clients
    if auto.budget == "none" or auto.chosen:
        return config
    if len(auto.client_memory_bytes) not in (0, clients):
        raise ConfigError(
            f"auto.client_memory_bytes must name one for each of the {clients} clients, got "
            f"{len(auto.client_memory_bytes)}"
        )
    if auto.every:
        return _settled(config)
    refused = []
    for name, codec in product(auto.methods or (config.method.name,), auto.codecs or ("",)):
        method(name, "auto.methods")
        try:
            return _decided_for(_with_codec(with_method(config, name), codec), codec)
        except (ConfigError, CutError) as error:
            refused.append(f"{name}{f' with {codec}' if codec else ''}: {error}")
    raise ConfigError(f"auto finds nothing within its budget: {'; '.join(refused)}")


def _with_codec(config: RunConfig, codec: str) -> RunConfig:
    if not codec:
        return config
    return without_unread(replace(config, codec=CodecConfig(activation=codec, output=codec, gradient=codec)))


def _decided_for(config: RunConfig, codec: str) -> RunConfig:
    auto, federation, paces = config.auto, config.federation, declared(config)
    cuts, ranks = auto.cuts or (config.partition.cut,), auto.ranks or (side_rank(config.adapter.head),)
    if max(ranks) > (most := side_rank(config.adapter.head)):
        raise ConfigError(f"auto.ranks must be at most adapter.head.rank, {most}, got {ranks}")
    plans = [
        Plan(method=config.method.name, cut=cut, rank=rank, codec=codec or "none")
        for cut, rank in product(cuts, ranks)
    ]
    table = rehearsed(config, plans, lambda plan: _undecided(_with(config, [plan] * federation.clients)))
    reads = method(config.method.name).reads
    has_own = min(len(cuts), len(ranks)) == 1 and f"federation.client_{_axis(config)}s" in reads
    if has_own:
        chosen = [_best(config, paces[client], options, client) for client, options in enumerate(table)]
    else:
        common = _common(config, paces, table)
        chosen = [next(one for one in options if one.plan == common) for options in table]
    found = _with(config, [one.plan for one in chosen])
    reasons = tuple(
        _reason(config, paces[client], client, one, table[client]) for client, one in enumerate(chosen)
    )
    return replace(found, auto=replace(auto, budget="none", chosen=reasons))


def _undecided(config: RunConfig) -> RunConfig:
    """The same settings with nothing left to choose."""
    return replace(config, auto=replace(config.auto, budget="none"))


def _axis(config: RunConfig) -> str:
    return "rank" if len(config.auto.ranks) > 1 else "cut"


def _with(config: RunConfig, plans: Sequence[Plan]) -> RunConfig:
    """These settings with a plan for each client."""
    reads, federation = method(config.method.name).reads, config.federation
    cuts, ranks = tuple(one.cut for one in plans), tuple(one.rank for one in plans)
    config = replace(config, partition=replace(config.partition, cut=min(cuts)))
    if len(set(cuts)) > 1 and "federation.client_cuts" in reads:
        config = replace(config, federation=replace(federation, client_cuts=cuts))
    if not config.auto.ranks:
        return config
    if "federation.client_ranks" in reads and _axis(config) == "rank" and len(config.auto.cuts) <= 1:
        return replace(config, federation=replace(federation, client_ranks=ranks))
    head = config.adapter.head
    low_rank = head.find(LowRank)
    scale = {"alpha": low_rank.alpha_of(ranks[0])} if low_rank else {}
    scaled = changed(head, rank=ranks[0], **scale)
    return replace(config, adapter=replace(config.adapter, head=scaled))


def _fits(config: RunConfig, pace: Pace, option: Option, client: int) -> bool:
    auto, memory = config.auto, config.auto.client_memory_bytes
    spent = option.spends(auto.budget, pace, config.server.flops)
    return spent <= auto.limit and (not memory or option.memory.total_bytes <= memory[client])


def _best(config: RunConfig, pace: Pace, options: Sequence[Option], client: int) -> Option:
    """What is preferred of that which fits this client."""
    auto, server = config.auto, config.server.flops
    fitting = [one for one in options if _fits(config, pace, one, client)]
    if not fitting:
        least = min(options, key=lambda one: (one.spends(auto.budget, pace, server), one.memory.total_bytes))
        raise ConfigError(
            f"client {client} has no {_axis(config)} that fits: the least is {shown(least.plan)}: "
            f"{_spent(config, pace, least)}, against {_limits(config, client)}"
        )
    return min(fitting, key=lambda one: preference(auto, one.plan, one.seconds(pace, server)))


def _common(config: RunConfig, paces: Sequence[Pace], table: Table) -> Plan:
    """What is preferred of that which fits every client; as soon over as for the slowest of them."""
    columns: list[tuple[Option, ...]] = [
        column
        for column in zip(*table, strict=True)
        if all(_fits(config, paces[client], one, client) for client, one in enumerate(column))
    ]
    if not columns:
        raise ConfigError(f"no {_axis(config)} fits all clients, and this method has one for all of them")

    def key(column: tuple[Option, ...]) -> tuple[float, ...]:
        slowest = max(one.seconds(pace, config.server.flops) for one, pace in zip(column, paces, strict=True))
        return preference(config.auto, column[0].plan, slowest)

    return min(columns, key=key)[0].plan


def _reason(config: RunConfig, pace: Pace, client: int, chosen: Option, options: Sequence[Option]) -> str:
    fitting = [one for one in options if _fits(config, pace, one, client)]
    what = "the largest of" if _axis(config) == "rank" else "the soonest over of"
    return (
        f"client {client}: {shown(chosen.plan)}, {what} {len(fitting)} that fit among {len(options)}: a "
        f"round takes {_spent(config, pace, chosen)}, against {_limits(config, client)}"
    )


def _spent(config: RunConfig, pace: Pace, option: Option) -> str:
    auto, server = config.auto, config.server.flops
    seconds = "" if auto.budget == "seconds" else f" in {option.seconds(pace, server):.4g} s"
    spent = f"{option.spends(auto.budget, pace, server):.4g} {UNITS[auto.budget]}"
    return f"{spent}{seconds} and {option.memory.total_bytes / 2**20:.4g} MiB"


def _limits(config: RunConfig, client: int) -> str:
    memory = config.auto.client_memory_bytes
    room = f"{memory[client] / 2**20:.4g} MiB" if memory else "memory without a limit"
    return f"{config.auto.limit:.4g} {UNITS[config.auto.budget]} and {room}"


def _settled(config: RunConfig) -> RunConfig:
    """The settings of a run that is planned from round to round: its candidates, and what each client holds.

    A client holds the deepest head that fits its memory with the first method that has one. Raises
    ConfigError for what cannot be planned, and where a client has no plan to begin with.
    """
    auto, head = config.auto, config.adapter.head
    if config.method.name != "sfl-v2":
        raise ConfigError(
            f"auto.every plans runs of 'sfl-v2' from round to round, got the method {config.method.name!r}: "
            "leave it at 0, or name it in auto.methods"
        )
    for name in auto.methods:
        if name not in (able := choosable()):
            raise ConfigError(
                f"auto.methods must name {', '.join(able)} with auto.every, between which a client can "
                f"change from round to round, got {name!r}"
            )
    for got in auto.ranks:
        if got > side_rank(head) or (got < side_rank(head) and head.kind != "lora"):
            raise ConfigError(
                f"auto.ranks are of LoRA and at most adapter.head.rank, {side_rank(head)}, got {got} of "
                f"{head.kind}"
            )
    if len(set(auto.cuts)) > 1 and "stale" in (config.erasure.activation, config.erasure.gradient):
        raise ConfigError(
            "erasure.activation and erasure.gradient cannot be 'stale' with several auto.cuts: what was "
            "heard of a sample at one cut is nothing at another"
        )
    if config.codec != CodecConfig():
        raise ConfigError("auto.every plans the codec, too: leave [codec] as it is and name auto.codecs")
    filled = replace(
        auto,
        methods=auto.methods or ("sfl-v2",),
        cuts=tuple(sorted(set(auto.cuts))) or (config.partition.cut,),
        ranks=auto.ranks or (side_rank(head),),
        codecs=auto.codecs or ("none",),
    )
    config = replace(config, auto=filled, partition=replace(config.partition, cut=min(filled.cuts)))
    table = options_of(config)
    held = tuple(_deepest(config, options, client) for client, options in enumerate(table))
    chosen = tuple(
        f"client {client}: holds {cut} blocks, and is told from round to round what to do"
        for client, cut in enumerate(held)
    )
    config = replace(config, federation=replace(config.federation, client_cuts=held))
    config = replace(config, auto=replace(filled, chosen=chosen))
    Controller(config, Ledger(), Events(None), table_of(config))  # has a plan for everybody to begin with
    return config


def _deepest(config: RunConfig, options: Sequence[Option], client: int) -> int:
    auto = config.auto
    for name in auto.methods:
        for cut in reversed(auto.cuts):
            able = in_room(auto, client, options, cut)
            if any(one.plan.method == name and one.plan.cut == cut for one in able):
                return cut
    least = min(options, key=lambda one: one.memory.total_bytes)
    parameters = max(one.memory.parameter_bytes for one in options if one.plan.cut <= least.plan.cut)
    needs = least.memory.total_bytes - least.memory.parameter_bytes + parameters
    raise ConfigError(
        f"auto finds nothing within client {client}'s memory of {auto.client_memory_bytes[client]} B: the "
        f"least is {shown(least.plan)}, with {needs} B"
    )
