"""The finetuning methods by name: those that come along and those of other packages."""

from dataclasses import replace
from typing import Any, Final

from splitfl.adapters.kind import LowRank
from splitfl.config import RunConfig, SideConfig, changed, one_of
from splitfl.core.registry import Registry
from splitfl.data.loader import Batches
from splitfl.methods import (
    controlled,
    cse_fsl,
    decomfl,
    fedkseed,
    fedlora,
    frozen,
    fsl_sage,
    heron,
    hiso,
    hosl,
    hybrid,
    mu_splitfed,
    sfl_v1,
    sfl_v2,
    spry,
    ushape,
)
from splitfl.methods.parts.local_update import LocalUpdateSpec
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod
from splitfl.methods.parts.optimiser import refuse_accumulation
from splitfl.methods.parts.spec import MethodSpec

METHODS: Final = Registry(
    "splitfl.methods",
    MethodSpec,
    {
        "sfl-v2": sfl_v2.SPEC,
        "sfl-v1": sfl_v1.SPEC,
        "frozen": frozen.SPEC,
        "ushape": ushape.SPEC,
        "cse-fsl": cse_fsl.SPEC,
        "fsl-sage": fsl_sage.SPEC,
        "hybrid": hybrid.SPEC,
        "hosl": hosl.SPEC,
        "heron": heron.SPEC,
        "mu-splitfed": mu_splitfed.SPEC,
        "fedlora": fedlora.SPEC,
        "decomfl": decomfl.SPEC,
        "hiso": hiso.SPEC,
        "fedkseed": fedkseed.SPEC,
        "spry": spry.SPEC,
    },
)
"""Each is what stands at the foot of its module; other packages add theirs as entry points of this group."""


def method(name: str, setting: str = "method.name") -> MethodSpec:
    """The method that this setting names; ConfigError, with the nearest, where there is none."""
    if name not in METHODS:
        one_of(setting, name, METHODS)
    return METHODS[name]


def choosable() -> dict[str, LocalUpdateSpec]:
    """The methods between which a client may change from round to round, with their local updates."""
    return {name: spec.local_update for name, spec in METHODS.items() if spec.local_update is not None}


def client_method(config: RunConfig, pieces: Pieces, batches: Batches, steps: int) -> ClientMethod:
    """A client's side of the run's method, or of a run that is planned from round to round.

    Raises ConfigError where it would have fewer steps in a round than `train.accumulate`.
    """
    refuse_accumulation(config.train, steps)
    if config.auto.every:
        return controlled.client(pieces, batches, steps, config, _planned(config))
    return method(config.method.name).client(pieces, batches, steps, config)


def server_method(config: RunConfig, pieces: Pieces) -> ServerMethod:
    """The server's side of the run's method, or of a run that is planned from round to round."""
    if config.auto.every:
        return controlled.server(pieces, config, _planned(config))
    return method(config.method.name).server(pieces, config)


def _planned(config: RunConfig) -> dict[str, LocalUpdateSpec]:
    return {name: spec for name, spec in choosable().items() if name in config.auto.methods}


def in_flight(config: RunConfig) -> int:
    """How many steps this method takes at the same time: as many as allowed, or one."""
    return config.method.in_flight if "method.in_flight" in method(config.method.name).reads else 1


def as_client(config: RunConfig, client: int) -> RunConfig:
    """The settings as this client has them: its own cut, and no adapter of its own has more than its rank."""
    if config.federation.client_cuts:
        cut = config.federation.client_cuts[client]
        config = replace(config, partition=replace(config.partition, cut=cut))
    if not config.federation.client_ranks:
        return config
    most = config.federation.client_ranks[client]
    sides = method(config.method.name).holds
    limited: dict[str, Any] = {side: _at_most(getattr(config.adapter, side), most) for side in sides}
    return replace(config, adapter=replace(config.adapter, **limited))


def _at_most(side: SideConfig, most: int) -> SideConfig:
    """The same scale at no more than this rank."""
    own = side.of(LowRank)
    rank = min(own.rank, most)
    ranks = tuple(min(one, most) for one in own.ranks)
    return changed(side, rank=rank, alpha=own.alpha_of(rank), ranks=ranks)
