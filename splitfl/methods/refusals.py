"""What is refused before a run: settings that its method does not read, and those that exclude each other."""

import dataclasses
from collections.abc import Mapping

from splitfl.adapters.registry import ADAPTERS
from splitfl.config import RunConfig, SideConfig
from splitfl.core.errors import ConfigError
from splitfl.federation.aggregators import AGGREGATORS, row
from splitfl.methods.row import MethodSpec, optional


def refuse_unread(config: RunConfig, methods: Mapping[str, MethodSpec], reads: frozenset[str]) -> None:
    """ConfigError where a setting is changed that the run does not read; all of them are named."""
    name, found = config.method.name, []
    for setting, (got, default) in optional(config).items():
        if got != default and setting not in reads:
            readers = ", ".join(one for one, its in methods.items() if setting in its.reads) or "no method"
            why = methods[name].why_not.get(setting)
            found.append(
                f"the method {name!r} does not read {setting}: leave it at {_shown(default)}, got "
                f"{_shown(got)}; it is read by {readers}{f'; {name!r} {why}' if why else ''}"
            )
    if found:
        raise ConfigError("; ".join(found))


def refuse_rounded_symbols(config: RunConfig) -> None:
    """ConfigError for a codec of numbers that are sent as they are."""
    for kind in config.analog.kinds:
        got = config.codec.of(kind.capitalize())
        if got != "none":
            raise ConfigError(
                f"codec.{kind} must be 'none' where analog.kinds has {kind!r}, which is sent as it is; "
                f"got {got!r}"
            )


def refuse_federation(config: RunConfig, chosen: MethodSpec) -> None:
    """ConfigError where the ways to put the clients' work together do not go together."""
    federation, name = config.federation, config.method.name
    its = row(federation.aggregator)
    if federation.aggregator not in chosen.aggregators:
        able = [one for one in AGGREGATORS if one in chosen.aggregators]
        raise ConfigError(
            f"the method {name!r} cannot work with federation.aggregator {federation.aggregator!r}; it can "
            f"with {', '.join(able)}"
        )
    takes_over = {"federation.robust": federation.robust != "none"}
    takes_over["federation.server_optimiser"] = federation.server_optimiser != "none"
    for setting, is_set in takes_over.items():
        if is_set and its.needs_individual_updates:
            raise ConfigError(
                f"{setting} goes with averages (rolora, ffa, mean) and not with federation.aggregator "
                f"{federation.aggregator!r}, which puts products together: leave it at 'none'"
            )
    for setting, reader, value in (
        ("trim", federation.robust, "trimmed-mean"),
        ("clip_norm", federation.robust, "clip"),
    ):
        _refuse_alone(config, setting, "robust", reader == value, value)
    _refuse_alone(config, "server_lr", "server_optimiser", federation.server_optimiser != "none", "adam")
    if federation.robust == "trimmed-mean" and federation.trim * federation.clients < 1:
        raise ConfigError(
            f"federation.trim must be at least 1 / {federation.clients} for {federation.clients} clients, or "
            f"nobody is trimmed; got {federation.trim}"
        )
    if federation.client_ranks:
        _refuse_ranks(config, chosen)
    for label in chosen.holds:
        side: SideConfig = getattr(config.adapter, label)
        if its.needs_individual_updates and not ADAPTERS[side.kind].is_lora:
            raise ConfigError(
                f"federation.aggregator {federation.aggregator!r} puts LoRA's products together, and "
                f"adapter.{label}.kind is {side.kind!r}: take rolora, ffa or mean"
            )


def refuse_no_forward_mode(config: RunConfig, chosen: MethodSpec) -> None:
    """ConfigError where clients differentiate in forward mode and a kind of adapter cannot."""
    if config.method.derivative != "jvp" and config.method.name != "spry":
        return
    for label in chosen.holds:
        name = getattr(config.adapter, label).kind
        if (reason := ADAPTERS[name].forward_mode) is not True:
            raise ConfigError(
                f"adapter.{label}.kind {name!r} does not work in forward mode: {reason}; take another kind, "
                "or a method with method.derivative 'difference' or 'central'"
            )


def capped(config: RunConfig, client: int, sides: tuple[str, ...]) -> RunConfig:
    """The settings as this client has them: what it holds has at most its own rank."""
    if not config.federation.client_ranks:
        return config
    most = config.federation.client_ranks[client]
    changed = {label: _at_most(getattr(config.adapter, label), most) for label in sides}
    return dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, **changed))


def _at_most(side: SideConfig, most: int) -> SideConfig:
    """The same scale, alpha / rank, at no more than this rank."""
    rank = min(side.rank, most)
    ranks = tuple(min(one, most) for one in side.ranks)
    return dataclasses.replace(side, rank=rank, alpha=side.alpha / side.rank * rank, ranks=ranks)


def _refuse_ranks(config: RunConfig, chosen: MethodSpec) -> None:
    federation = config.federation
    if len(federation.client_ranks) != federation.clients:
        raise ConfigError(
            f"federation.client_ranks must name one rank for each of the {federation.clients} clients, got "
            f"{len(federation.client_ranks)}"
        )
    for label in chosen.holds:
        if not ADAPTERS[getattr(config.adapter, label).kind].is_lora:
            able = " or ".join(repr(name) for name, kind in ADAPTERS.items() if kind.is_lora)
            raise ConfigError(f"federation.client_ranks are of LoRA: adapter.{label}.kind must be {able}")
    if federation.robust != "none":
        raise ConfigError(
            "federation.robust compares clients number by number and cannot with federation.client_ranks: "
            "leave one of them out"
        )


def _refuse_alone(config: RunConfig, setting: str, partner: str, is_read: bool, example: str) -> None:
    federation = config.federation
    got, default = getattr(federation, setting), getattr(type(federation), setting)
    if got != default and not is_read:
        raise ConfigError(
            f"federation.{setting} is read with federation.{partner} {example!r} alone: leave it at "
            f"{default}, got {got}"
        )


def _shown(value: object) -> str:
    """A setting as it is written: a table by what is changed in it."""
    if not isinstance(value, SideConfig):
        return repr(value)
    changed = [
        f"{one.name}={getattr(value, one.name)!r}"
        for one in dataclasses.fields(value)
        if getattr(value, one.name) != one.default
    ]
    return f"({', '.join(changed)})" if changed else "its default"
