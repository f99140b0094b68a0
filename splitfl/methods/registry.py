"""The finetuning methods by name: those of splitfl and those of other packages."""

from dataclasses import replace
from typing import Any, Final

from splitfl.adapters.kind import LowRank
from splitfl.config import RunConfig, SideConfig, changed, one_of
from splitfl.core.errors import ConfigError
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
from splitfl.methods.parts.method import BatchServer, ClientMethod, Pieces, ServerMethod
from splitfl.methods.parts.optimiser import refuse_accumulation
from splitfl.methods.parts.spec import MethodSpec
from splitfl.methods.pretraining import data_parallel, diloco

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
        "diloco": diloco.SPEC,
        "dp": data_parallel.SPEC,
    },
)
"""The specification at the end of each module; other packages register theirs as entry points."""


def method(name: str, setting: str = "method.name") -> MethodSpec:
    """The method called `name`; ConfigError, with the nearest name, if there is none."""
    if name not in METHODS:
        one_of(setting, name, METHODS)
    return METHODS[name]


def controllable() -> dict[str, LocalUpdateSpec]:
    """The methods that a controller may assign to clients from round to round, with their local updates."""
    return {name: spec.local_update for name, spec in METHODS.items() if spec.local_update is not None}


def client_method(config: RunConfig, pieces: Pieces, batches: Batches, steps: int) -> ClientMethod:
    """A client's side of the run's method, or of a run that is planned from round to round.

    Raises ConfigError where it would have fewer steps in a round than `train.accumulate`.
    """
    refuse_accumulation(config.train, steps)
    if config.auto.every:
        return controlled.client(pieces, batches, steps, config, _controlled_specs(config))
    return method(config.method.name).client(pieces, batches, steps, config)


def server_method(config: RunConfig, pieces: Pieces) -> ServerMethod:
    """The server's side of the run's method, or of a run whose controller assigns methods.

    Raises ConfigError for a method of another package whose server lacks what its specification declares.
    """
    if config.auto.every:
        return controlled.server(pieces, config, _controlled_specs(config))
    made = method(config.method.name).server(pieces, config)
    if config.method.server_batch > 1 and not isinstance(made, BatchServer):
        raise ConfigError(
            f"the method {config.method.name!r} declares server_batch, and its server has no compute_batch: "
            f"leave method.server_batch at 1, got {config.method.server_batch}"
        )
    return made


def _controlled_specs(config: RunConfig) -> dict[str, LocalUpdateSpec]:
    return {name: spec for name, spec in controllable().items() if name in config.auto.methods}


def in_flight(config: RunConfig) -> int:
    """The number of server steps in flight: `method.in_flight` if the method reads it, else 1."""
    return config.method.in_flight if "method.in_flight" in method(config.method.name).reads else 1


def served_together(config: RunConfig) -> int:
    """The number of clients whose messages of a step the server takes together."""
    is_joint = method(config.method.name).waits_for_all
    return config.federation.clients if is_joint else config.method.server_batch


def as_client(config: RunConfig, client: int) -> RunConfig:
    """The settings of one client: its own cut, and the ranks of its adapters limited to its own rank."""
    if config.federation.client_cuts:
        cut = config.federation.client_cuts[client]
        config = replace(config, partition=replace(config.partition, cut=cut))
    if not config.federation.client_ranks:
        return config
    max_rank = config.federation.client_ranks[client]
    sides = method(config.method.name).holds
    limited: dict[str, Any] = {side: _at_most(getattr(config.adapter, side), max_rank) for side in sides}
    return replace(config, adapter=replace(config.adapter, **limited))


def _at_most(side: SideConfig, max_rank: int) -> SideConfig:
    """The adapter with its rank limited to `max_rank` at the same scale."""
    own = side.of(LowRank)
    rank = min(own.rank, max_rank)
    ranks = tuple(min(one, max_rank) for one in own.ranks)
    return changed(side, rank=rank, alpha=own.alpha_of(rank), ranks=ranks)
