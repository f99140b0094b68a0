"""The finetuning methods by name: one row each."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from splitfl.config import RunConfig, one_of
from splitfl.methods import making
from splitfl.methods.heron import refuse_heron
from splitfl.methods.hiso import refuse_hiso
from splitfl.methods.parts.auxiliary import refuse_auxiliary
from splitfl.methods.parts.forward_mode import refuse_fused_attention
from splitfl.methods.parts.plan import RULES
from splitfl.methods.parts.zeroth_order_client import refuse_estimate
from splitfl.methods.per_client_cut import refuse_cuts
from splitfl.methods.refusals import (
    capped,
    refuse_federation,
    refuse_no_forward_mode,
    refuse_rounded_symbols,
    refuse_unread,
)
from splitfl.methods.row import MethodSpec, fitted
from splitfl.methods.timing import refuse_schedule
from splitfl.methods.ushape import refuse_no_tail


def check(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for settings that the method does not read, and for what it cannot work with."""
    chosen = method(config.method.name)
    refuse_unread(config, METHODS, reads(config))
    refuse_rounded_symbols(config)
    refuse_federation(config, chosen)
    refuse_schedule(config)
    refuse_no_forward_mode(config, chosen)
    chosen.refuse(config, kind, num_blocks)
    for other in _others(config):
        deepest = replace(config.partition, cut=max((*config.auto.cuts, config.partition.cut)))
        METHODS[other].refuse(replace(config, partition=deepest), kind, num_blocks)


def in_flight(config: RunConfig) -> int:
    """How many steps this method takes at the same time: as many as allowed, or one."""
    return config.method.in_flight if "method.in_flight" in method(config.method.name).reads else 1


def reads(config: RunConfig) -> frozenset[str]:
    """The optional settings that a run reads: its method's, and those that its clients may change to."""
    return method(config.method.name).reads.union(*(METHODS[name].reads for name in _others(config)))


def _others(config: RunConfig) -> list[str]:
    """The methods of a run that is planned from round to round beside the one that it is named by."""
    named = config.auto.methods if config.auto.every else ()
    return [name for name in RULES if name in named and name != config.method.name]


def without_unread(config: RunConfig) -> RunConfig:
    """The same settings, with what the method does not read at its default: to lay methods side by side."""
    return fitted(config, reads(config))


def as_client(config: RunConfig, client: int) -> RunConfig:
    """The settings as this client has them: its own cut, and no adapter of its own has more than its rank."""
    if config.federation.client_cuts:
        cut = config.federation.client_cuts[client]
        config = replace(config, partition=replace(config.partition, cut=cut))
    return capped(config, client, method(config.method.name).holds)


_FACTORS: Final = frozenset({"rolora", "ffa", "mean"})
_PRODUCTS: Final = frozenset({"stack", "fedex", "svd"})
_STEPS: Final = frozenset({"adapter.head", "train.head_lr", "federation.aggregator"})
_LEARNS: Final = _STEPS | {"train.head_schedule"}
_BODY: Final = frozenset({"train.body_lr"})
_MOVED: Final = frozenset({"federation.server_optimiser", "federation.server_lr"})
_UPLOADS: Final = (
    _LEARNS
    | {
        "federation.client_ranks",
        "federation.robust",
        "federation.trim",
        "federation.clip_norm",
    }
    | _MOVED
)
_BACKPROP: Final = frozenset({"method.checkpoint_head", "method.micro_batch"})
_ESTIMATE: Final = frozenset({"method.perturbations", "method.mu"})
_SLICES: Final = frozenset({"method.slices"})
_AUXILIARY: Final = frozenset({"method.in_flight", "method.auxiliary_blocks", "method.upload_interval"})
_UP: Final = frozenset({"codec.activation"})
_UP_AND_DOWN: Final = _UP | {"codec.gradient"}
_SWALLOWED: Final = {
    "codec.activation": "takes differences of losses of activations mu apart, which rounding swallows"
}

METHODS: Final[Mapping[str, MethodSpec]] = {
    "sfl-v2": MethodSpec(
        about="basic LoRA: activations up, gradients down, one shared body",
        client=making.sfl_client,
        server=making.sfl_v2_server,
        citations=("splitfed", "splitlora", "lora"),
        reads=_UPLOADS | _BODY | _BACKPROP | {"method.in_flight", "federation.client_cuts"} | _UP_AND_DOWN,
        refuse=refuse_cuts,
        aggregators=_FACTORS | _PRODUCTS,
    ),
    "sfl-v1": MethodSpec(
        about="as sfl-v2, with a body for each client on the server, averaged once a round",
        client=making.sfl_client,
        server=making.sfl_v1_server,
        citations=("splitfed", "lora"),
        reads=_LEARNS | _BODY | _BACKPROP | {"method.in_flight", "federation.client_ranks"} | _UP_AND_DOWN,
        aggregators=_FACTORS,
    ),
    "frozen": MethodSpec(
        about="the head never learns: each sample's activation goes up once, nothing comes down",
        client=making.frozen_client,
        server=making.frozen_server,
        citations=("splitfrozen", "lora"),
        reads=_BODY | {"method.in_flight"} | _UP,
    ),
    "ushape": MethodSpec(
        about="head and tail on the client, the body between them on the server: labels never leave",
        client=making.ushape_client,
        server=making.ushape_server,
        citations=("ushape", "lora"),
        reads=_UPLOADS | _BODY | _BACKPROP | {"partition.tail_blocks"} | _UP_AND_DOWN | {"codec.output"},
        refuse=refuse_no_tail,
        needs=("partition.tail_blocks=1",),
        aggregators=_FACTORS | _PRODUCTS,
    ),
    "cse-fsl": MethodSpec(
        about="the client learns from an auxiliary's loss, the server from every q-th activation",
        client=making.cse_client,
        server=making.cse_server,
        citations=("csefsl", "lora"),
        reads=_UPLOADS | _BODY | _BACKPROP | _AUXILIARY | _UP,
        refuse=refuse_auxiliary,
        aggregators=_FACTORS | _PRODUCTS,
    ),
    "fsl-sage": MethodSpec(
        about="as cse-fsl, with the auxiliary aligned to the server's gradients every l rounds",
        client=making.sage_client,
        server=making.sage_server,
        citations=("fslsage", "lora"),
        reads=_UPLOADS
        | _BODY
        | _BACKPROP
        | _AUXILIARY
        | _UP
        | {"method.align_interval", "method.align_passes", "method.align_batches"},
        refuse=refuse_auxiliary,
        aggregators=_FACTORS | _PRODUCTS,
    ),
    "hybrid": MethodSpec(
        about="Hybrid LoRA: first order on the server, forward passes on the client, scalars for weights",
        client=making.hybrid_client,
        server=making.hybrid_server,
        citations=("hosfl", "lora"),
        reads=_LEARNS
        | _MOVED
        | _BODY
        | _ESTIMATE
        | _SLICES
        | {"method.derivative", "method.in_flight"}
        | _UP_AND_DOWN,
        refuse=refuse_estimate,
        aggregators=_FACTORS | {"seed-scalar"},
    ),
    "hosl": MethodSpec(
        about="first order on the server, differences of its loss on the client: 2P+1 activations a step",
        client=making.hosl_client,
        server=making.hosl_server,
        citations=("hosl", "lora"),
        reads=_LEARNS | _MOVED | _BODY | _ESTIMATE | _SLICES | {"method.in_flight"},
        why_not=_SWALLOWED,
        refuse=refuse_estimate,
        aggregators=_FACTORS | {"seed-scalar"},
    ),
    "heron": MethodSpec(
        about="as cse-fsl, with forward passes alone on the client",
        client=making.heron_client,
        server=making.cse_server,
        citations=("heron", "lora"),
        reads=_UPLOADS | _BODY | _ESTIMATE | _AUXILIARY | {"method.derivative"} | _UP,
        refuse=refuse_heron,
        aggregators=_FACTORS | _PRODUCTS,
    ),
    "mu-splitfed": MethodSpec(
        about="zeroth order on both sides: three activations up, one number down, several server steps",
        client=making.mu_client,
        server=making.mu_server,
        citations=("musplitfed", "lora"),
        reads=_UPLOADS | _BODY | {"method.mu", "method.server_steps"},
        why_not=_SWALLOWED,
        refuse=refuse_estimate,
        aggregators=_FACTORS | _PRODUCTS,
    ),
    "fedlora": MethodSpec(
        about="no cut: clients finetune the whole model and send adapters (the reference)",
        client=making.fedlora_client,
        server=making.fed_server,
        citations=("fedavg", "lora"),
        reads=_UPLOADS | _BACKPROP,
        aggregators=_FACTORS | _PRODUCTS,
        holds=("head", "body"),
    ),
    "decomfl": MethodSpec(
        about="no cut: clients find slopes of the whole model's loss, and scalars are all that travels",
        client=making.decomfl_client,
        server=making.decomfl_server,
        citations=("decomfl", "mezo", "lora"),
        reads=_LEARNS | _MOVED | _ESTIMATE | _SLICES | {"method.derivative"},
        refuse=refuse_estimate,
        aggregators=_FACTORS | {"seed-scalar"},
        holds=("head", "body"),
    ),
    "hiso": MethodSpec(
        about="no cut: as decomfl, along directions that are shorter where the loss is steep",
        client=making.hiso_client,
        server=making.hiso_server,
        citations=("hiso", "decomfl", "lora"),
        reads=_LEARNS | _MOVED | _ESTIMATE | {"method.derivative", "method.hessian_smooth"},
        refuse=refuse_hiso,
        aggregators=_FACTORS | {"seed-scalar"},
        holds=("head", "body"),
    ),
    "fedkseed": MethodSpec(
        about="no cut: as decomfl along a pool of directions, so that one sum for each is the whole state",
        client=making.fedkseed_client,
        server=making.fedkseed_server,
        citations=("fedkseed", "mezo", "lora"),
        reads=_STEPS | _ESTIMATE | {"method.derivative", "method.pool"},
        refuse=refuse_estimate,
        aggregators=_FACTORS | {"seed-scalar"},
        holds=("head", "body"),
    ),
    "spry": MethodSpec(
        about="no cut: forward mode on the client, each with a slice of the adapters",
        client=making.spry_client,
        server=making.fed_server,
        citations=("spry", "lora"),
        reads=_LEARNS | {"method.perturbations"},
        refuse=refuse_fused_attention,
        needs=("model.attention=eager",),
        aggregators=_FACTORS,
        holds=("head", "body"),
    ),
}


def method(name: str) -> MethodSpec:
    """The method of this name; ConfigError, with the nearest, where there is none."""
    one_of("method.name", name, METHODS)
    return METHODS[name]
