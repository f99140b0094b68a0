"""The controller `auto` before a run: chooses each client's plan by the costs of a dry run.

Options beyond a client's memory or the budget are excluded; `AutoConfig` has the order of preference. A
static choice has per-client cuts or ranks if the method supports them, else common ones, and one method and
one codec. A choice from round to round is per client in all: see `controller`.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from splitfl.accounting.ledger import Ledger
from splitfl.adapters.kind import LowRank
from splitfl.adapters.registry import side_rank
from splitfl.config import CodecConfig, RunConfig, changed
from splitfl.controller.controller import Controller
from splitfl.controller.cost_table import (
    UNITS,
    Option,
    Pace,
    Table,
    declared,
    fitting_memory,
    plan_text,
    preference,
)
from splitfl.controller.dry_run import dry_run_table, options_of, table_of
from splitfl.core.errors import ConfigError, CutError
from splitfl.core.events import Events
from splitfl.core.messages import Plan
from splitfl.methods.registry import controllable, method
from splitfl.methods.settings import with_method, without_unread
from splitfl.setup.codecs import check_fixed_sizes


def resolved(config: RunConfig) -> RunConfig:
    """The settings with `auto`'s choices and, in `auto.chosen`, the reasons; unchanged without a budget.

    Raises ConfigError with the reason for each method if none fits.
    """
    auto, clients = config.auto, config.federation.clients
    if auto.budget == "none" or auto.chosen:
        return config
    check_fixed_sizes(config)
    if len(auto.client_memory_bytes) not in (0, clients):
        raise ConfigError(
            f"auto.client_memory_bytes must have a value for each of the {clients} clients, got "
            f"{len(auto.client_memory_bytes)}"
        )
    if auto.every:
        return _with_candidates(config)
    refused = []
    for name, codec in product(auto.methods or (config.method.name,), auto.codecs or ("",)):
        method(name, "auto.methods")
        try:
            return _resolved_for(_with_codec(with_method(config, name), codec), codec)
        except (ConfigError, CutError) as error:
            refused.append(f"{name}{f' with {codec}' if codec else ''}: {error}")
    raise ConfigError(f"auto finds no plan within its budget: {'; '.join(refused)}")


def _with_codec(config: RunConfig, codec: str) -> RunConfig:
    if not codec:
        return config
    at_cut = replace(config.codec, activation=codec, output=codec, gradient=codec)
    return without_unread(replace(config, codec=at_cut))


def _resolved_for(config: RunConfig, codec: str) -> RunConfig:
    auto, federation, paces = config.auto, config.federation, declared(config)
    cuts, ranks = auto.cuts or (config.partition.cut,), auto.ranks or (side_rank(config.adapter.head),)
    if max(ranks) > (most := side_rank(config.adapter.head)):
        raise ConfigError(f"auto.ranks must be at most adapter.head.rank, {most}, got {ranks}")
    plans = [
        Plan(method=config.method.name, cut=cut, rank=rank, codec=codec or "none")
        for cut, rank in product(cuts, ranks)
    ]
    table = dry_run_table(
        config, plans, lambda plan: _without_budget(_with(config, [plan] * federation.clients))
    )
    reads = method(config.method.name).reads
    is_per_client = min(len(cuts), len(ranks)) == 1 and f"federation.client_{_axis(config)}s" in reads
    if is_per_client:
        chosen = [_best(config, paces[client], options, client) for client, options in enumerate(table)]
    else:
        common = _common(config, paces, table)
        chosen = [next(one for one in options if one.plan == common) for options in table]
    found = _with(config, [one.plan for one in chosen])
    reasons = tuple(
        _reason(config, paces[client], client, one, table[client]) for client, one in enumerate(chosen)
    )
    return replace(found, auto=replace(auto, budget="none", chosen=reasons))


def _without_budget(config: RunConfig) -> RunConfig:
    """The same settings without a budget."""
    return replace(config, auto=replace(config.auto, budget="none"))


def _axis(config: RunConfig) -> str:
    return "rank" if len(config.auto.ranks) > 1 else "cut"


def _with(config: RunConfig, plans: Sequence[Plan]) -> RunConfig:
    """The settings with these clients' plans."""
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
    """The preferred option that fits this client."""
    auto, server = config.auto, config.server.flops
    fitting = [one for one in options if _fits(config, pace, one, client)]
    if not fitting:
        least = min(options, key=lambda one: (one.spends(auto.budget, pace, server), one.memory.total_bytes))
        raise ConfigError(
            f"no {_axis(config)} fits client {client}: the cheapest is {plan_text(least.plan)}: "
            f"{_spent(config, pace, least)}, against {_limits(config, client)}"
        )
    return min(fitting, key=lambda one: preference(auto, one.plan, one.seconds(pace, server)))


def _common(config: RunConfig, paces: Sequence[Pace], table: Table) -> Plan:
    """The preferred plan that fits every client; a plan's time is that of the slowest client."""
    columns: list[tuple[Option, ...]] = [
        column
        for column in zip(*table, strict=True)
        if all(_fits(config, paces[client], one, client) for client, one in enumerate(column))
    ]
    if not columns:
        raise ConfigError(f"no {_axis(config)} fits all clients, and this method needs a common one")

    def key(column: tuple[Option, ...]) -> tuple[float, ...]:
        slowest = max(one.seconds(pace, config.server.flops) for one, pace in zip(column, paces, strict=True))
        return preference(config.auto, column[0].plan, slowest)

    return min(columns, key=key)[0].plan


def _reason(config: RunConfig, pace: Pace, client: int, chosen: Option, options: Sequence[Option]) -> str:
    fitting = [one for one in options if _fits(config, pace, one, client)]
    what = "the largest of" if _axis(config) == "rank" else "the fastest of"
    return (
        f"client {client}: {plan_text(chosen.plan)}, {what} {len(fitting)} that fit out of {len(options)}: a "
        f"round takes {_spent(config, pace, chosen)}, against {_limits(config, client)}"
    )


def _spent(config: RunConfig, pace: Pace, option: Option) -> str:
    auto, server = config.auto, config.server.flops
    seconds = "" if auto.budget == "seconds" else f" in {option.seconds(pace, server):.4g} s"
    spent = f"{option.spends(auto.budget, pace, server):.4g} {UNITS[auto.budget]}"
    return f"{spent}{seconds} and {option.memory.total_bytes / 2**20:.4g} MiB"


def _limits(config: RunConfig, client: int) -> str:
    memory = config.auto.client_memory_bytes
    room = f"{memory[client] / 2**20:.4g} MiB" if memory else "unlimited memory"
    return f"{config.auto.limit:.4g} {UNITS[config.auto.budget]} and {room}"


def _with_candidates(config: RunConfig) -> RunConfig:
    """The settings of a run planned from round to round: candidate plans, and each client's head.

    A client holds the deepest head that fits its memory with the first possible method. Raises
    ConfigError for settings that exclude planning, and if a client has no initial plan.
    """
    auto, head = config.auto, config.adapter.head
    if config.method.name != "sfl-v2":
        raise ConfigError(
            f"auto.every needs method.name 'sfl-v2', got {config.method.name!r}: "
            "leave it at 0, or name the method in auto.methods"
        )
    for name in auto.methods:
        if name not in (able := controllable()):
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
            "erasure.activation and erasure.gradient cannot be 'stale' with several auto.cuts: rows "
            "received at one cut cannot replace those of another"
        )
    if config.codec != CodecConfig():
        raise ConfigError(
            "auto.every also plans the codec: leave [codec] at its defaults and name auto.codecs"
        )
    filled = replace(
        auto,
        methods=auto.methods or ("sfl-v2",),
        cuts=tuple(sorted(set(auto.cuts))) or (config.partition.cut,),
        ranks=auto.ranks or (side_rank(head),),
        codecs=auto.codecs or ("none",),
    )
    config = replace(config, auto=filled, partition=replace(config.partition, cut=min(filled.cuts)))
    table = options_of(config)
    cuts = tuple(_deepest(config, options, client) for client, options in enumerate(table))
    chosen = tuple(
        f"client {client}: holds {cut} blocks, planned from round to round" for client, cut in enumerate(cuts)
    )
    config = replace(config, federation=replace(config.federation, client_cuts=cuts))
    config = replace(config, auto=replace(filled, chosen=chosen))
    Controller(
        config, Ledger(), Events(None), table_of(config)
    )  # checks that every client has an initial plan
    return config


def _deepest(config: RunConfig, options: Sequence[Option], client: int) -> int:
    auto = config.auto
    for name in auto.methods:
        for cut in reversed(auto.cuts):
            able = fitting_memory(auto, client, options, cut)
            if any(one.plan.method == name and one.plan.cut == cut for one in able):
                return cut
    least = min(options, key=lambda one: one.memory.total_bytes)
    parameters = max(one.memory.parameter_bytes for one in options if one.plan.cut <= least.plan.cut)
    needs = least.memory.total_bytes - least.memory.parameter_bytes + parameters
    raise ConfigError(
        f"auto finds no plan within client {client}'s memory of {auto.client_memory_bytes[client]} B: the "
        f"smallest is {plan_text(least.plan)}, with {needs} B"
    )
