"""Rules across tables of settings, one row each: (setting, needs, where, why)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from splitfl.adapters.registry import ADAPTERS, trains_all
from splitfl.config import ADAPTER_KINDS, POLICIES, SHARDS, TENSOR, RunConfig, value_of
from splitfl.config.data import SCHEDULES, SERVER_OPTIMISERS
from splitfl.core.errors import ConfigError
from splitfl.federation.aggregators import EXACT_MEANS, row
from splitfl.federation.staleness import at_own_pace
from splitfl.methods.parts.spec import FACTORS, ROW_MESSAGES, MethodSpec
from splitfl.models.families import FAMILIES, IMAGE_CLASSIFICATION, SEQ2SEQ_LM, TOKEN_CLASSIFICATION


@dataclass(frozen=True, kw_only=True)
class Case:
    """The settings of a run, its method, and the kind and family of its model."""

    config: RunConfig
    spec: MethodSpec
    kind: str
    model_type: str

    @property
    def trains_batch_norms(self) -> bool:
        """Whether running statistics of batch norms are trained."""
        sides = (self.config.adapter.head, self.config.adapter.body)
        return FAMILIES[self.model_type].has_batch_norms and any(map(trains_all, sides))


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`setting` must be one of `needs` in the cases `where`, which `why` describes as a format string."""

    setting: str
    needs: tuple[object, ...] | Callable[[], tuple[object, ...]]
    where: Callable[[Case], bool]
    why: str

    def check(self, case: Case) -> None:
        """ConfigError if the setting has another value; keys that the method does not have are ignored."""
        got, able = value_of(case.config, self.setting), self.needs() if callable(self.needs) else self.needs
        if got is not None and got not in able and self.where(case):
            needs = " or ".join(map(_formatted, able))
            why = self.why.format(**vars(case.config))
            raise ConfigError(f"{self.setting} must be {needs} {why}; got {_formatted(got)}")


def _is_analog(name: str) -> Callable[[Case], bool]:
    return lambda case: name in case.config.analog.kinds


def is_asynchronous(case: Case) -> bool:
    """Whether clients are in different rounds at the same time."""
    return at_own_pace(case.config.federation)


def _merges_products(case: Case) -> bool:
    return row(case.config.federation.aggregator).needs_individual_updates


def _holds(side: str, where: Callable[[Case], bool]) -> Callable[[Case], bool]:
    return lambda case: side in case.spec.holds and where(case)


def _has_ranks(case: Case) -> bool:
    return bool(case.config.federation.client_ranks)


def _averages_one_factor(case: Case) -> bool:
    return case.config.federation.clients > 1 and case.config.federation.aggregator in EXACT_MEANS


def _has_shard(*ways: str) -> Callable[[Case], bool]:
    return lambda case: case.config.server.shard in ways


def _linear_kinds() -> tuple[object, ...]:
    return tuple(name for name, kind in ADAPTERS.items() if kind.linear is True)


def _kinds_of_lora() -> tuple[object, ...]:
    return tuple(name for name, kind in ADAPTERS.items() if kind.is_lora)


def _kinds_without_adapters() -> tuple[object, ...]:
    return tuple(name for name, kind in ADAPTERS.items() if kind.trains_all)


def _rules(
    where: Callable[[Case], bool],
    why: str,
    needs: Mapping[str, tuple[object, ...] | Callable[[], tuple[object, ...]]],
) -> list[Rule]:
    return [Rule(setting=setting, needs=values, where=where, why=why) for setting, values in needs.items()]


RULES: Final[tuple[Rule, ...]] = (
    *(
        rule
        for name in ROW_MESSAGES
        for rule in _rules(
            _is_analog(name),
            f"where analog.kinds has {name!r}, which is sent as analog symbols, without packets",
            {f"codec.{name}": ("none",), f"erasure.{name}": ("reliable",)},
        )
    ),
    *_rules(
        _merges_products,
        "with federation.aggregator {federation.aggregator!r}, which merges products and does not average "
        "(rolora, ffa and mean do)",
        {"federation.robust": ("none",), "federation.server_optimiser": ("none",)},
    ),
    *(
        rule
        for side in ("head", "body")
        for where, why in (
            (
                _merges_products,
                "with federation.aggregator {federation.aggregator!r}, which merges LoRA's products "
                "(rolora, ffa and mean take any kind)",
            ),
            (_has_ranks, "with federation.client_ranks, which exist for LoRA only"),
        )
        for rule in _rules(_holds(side, where), why, {f"adapter.{side}.kind": _kinds_of_lora})
    ),
    *(
        rule
        for side in ("head", "body")
        for rule in _rules(
            _holds(side, _averages_one_factor),
            "with federation.aggregator {federation.aggregator!r}, whose mean is exact for weights that are "
            "linear in each factor (mean takes any kind)",
            {f"adapter.{side}.kind": _linear_kinds},
        )
    ),
    *_rules(
        _has_ranks,
        "with federation.client_ranks, since an adapter of another rank would start from another update",
        {f"adapter.{side}.init": ("kaiming",) for side in ("head", "body")},
    ),
    *_rules(
        _has_ranks,
        "with federation.client_ranks, since it compares the clients' tensors element by element",
        {"federation.robust": ("none",)},
    ),
    *_rules(
        lambda case: case.config.codec.encodes_adapters,
        "with codec.adapter_up or codec.adapter_down, which encode differences of the same tensors on all "
        "clients",
        {
            "federation.aggregator": tuple(sorted(FACTORS)),
            "federation.client_ranks": ((),),
            "analog.sum_adapters": (False,),
        },
    ),
    *_rules(
        lambda case: case.trains_batch_norms,
        "where batch norms are trained, whose running variance must not become negative",
        {f"codec.{kind}": ("none",) for kind in ADAPTER_KINDS},
    ),
    *_rules(
        lambda case: case.config.federation.schedule != "synchronous",
        "with federation.schedule {federation.schedule!r}, which requires a link of its own for each client",
        {"link.scenario": ("",)},
    ),
    *_rules(
        is_asynchronous,
        "with federation.schedule {federation.schedule!r}, whose clients are in different rounds",
        {
            "federation.aggregator": ("ffa", "mean"),
            "federation.client_ranks": ((),),
            "method.in_flight": (1,),
            "method.server_batch": (1,),
            "analog.sum_adapters": (False,),
            "fault_tolerance.on_loss": ("abort",),
            "fault_tolerance.clients_per_round": (0,),
            "fault_tolerance.leave_rate": (0.0,),
            "fault_tolerance.quorum": (0,),
            "fault_tolerance.step_s": (0.0,),
            "fault_tolerance.round_s": (0.0,),
        },
    ),
    *_rules(
        lambda case: case.config.method.server_batch > 1,
        "with method.server_batch {method.server_batch}, whose batches are computed one after the other",
        {"method.in_flight": (1,)},
    ),
    *_rules(
        lambda case: case.config.auto.every > 0,
        "with auto.every, which may give clients different cuts",
        {"method.server_batch": (1,)},
    ),
    *_rules(
        lambda case: case.kind == IMAGE_CLASSIFICATION,
        "for images, whose models attend to every patch",
        {"erasure.activation": tuple(one for one in POLICIES if one != "mask")},
    ),
    *_rules(
        lambda case: case.kind == TOKEN_CLASSIFICATION,
        "for token classification, where each token has a label of its own",
        {"erasure.activation": tuple(one for one in POLICIES if one != "mask")},
    ),
    *_rules(
        lambda case: case.kind == SEQ2SEQ_LM,
        "for an encoder-decoder, whose labels are another sequence than the tokens that cross",
        {"erasure.activation": tuple(one for one in POLICIES if one != "mask")},
    ),
    *_rules(
        lambda case: case.config.task.name == "sft" and case.config.task.packing == "pack",
        "where task.packing puts several texts into a sample, separated by their positions",
        {"erasure.activation": tuple(one for one in POLICIES if one != "mask")},
    ),
    *_rules(
        lambda case: trains_all(case.config.adapter.head) or trains_all(case.config.adapter.body),
        "where the other side trains its own parameters: the run exports one whole model",
        {"adapter.head.kind": _kinds_without_adapters, "adapter.body.kind": _kinds_without_adapters},
    ),
    *_rules(
        lambda case: trains_all(case.config.adapter.head) or trains_all(case.config.adapter.body),
        "where the model's own weights are trained (adapter kind 'full')",
        {"model.quantization": ("none",)},
    ),
    *_rules(
        lambda case: case.trains_batch_norms,
        "where batch norms are trained, whose statistics need whole batches in order and are averaged",
        {
            "method.in_flight": (1,),
            "method.micro_batch": (0,),
            "method.checkpoint_head": (False,),
            "federation.schedule": ("synchronous", "deadline"),
            "federation.server_optimiser": ("none",),
            "federation.robust": ("none",),
            "analog.sum_adapters": (False,),
        },
    ),
    *_rules(
        _has_shard(*SHARDS[1:]),
        "with server.shard {server.shard!r}, where several ranks hold one body",
        {
            "method.in_flight": (1,),
            "method.server_batch": (1,),
            "federation.client_cuts": ((),),
            "partition.tail_blocks": (0,),
            "auto.every": (0,),
            "model.quantization": ("none",),
            **dict.fromkeys((f"codec.{kind}" for kind in ADAPTER_KINDS), ("none",)),
        },
    ),
    *_rules(
        _has_shard(*SHARDS[1:]),
        "with server.shard {server.shard!r}, whose ranks have all trained tensors and divide frozen weights, "
        "which this kind trains or reads as a whole",
        {f"adapter.{side}.kind": ("lora",) for side in ("head", "body")},
    ),
    *_rules(
        _has_shard(*SHARDS[1:]),
        "with server.shard {server.shard!r}, since no rank has the whole weights from which to compute it",
        {f"adapter.{side}.init": ("kaiming", "orthogonal") for side in ("head", "body")},
    ),
    *_rules(
        _has_shard("fsdp", TENSOR),
        "with server.shard {server.shard!r}, which divides frozen weights of modules ('stages' takes any)",
        {"adapter.body.bias": ("none",), "adapter.body.modules_to_save": ((),)},
    ),
    *_rules(
        _has_shard(TENSOR),
        "with server.shard 'tensor', since a rank may have only a part of the inputs that dropout masks",
        {"adapter.body.dropout": (0.0,)},
    ),
)

READ_WITH: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("model.quantization_group_size", "model.quantization", ("int4",)),
    *((f"server.{name}", "server.shard", SHARDS[1:]) for name in ("ranks", "collective_timeout_s")),
    ("federation.trim", "federation.robust", ("trimmed-mean",)),
    ("federation.clip_norm", "federation.robust", ("clip",)),
    ("federation.server_lr", "federation.server_optimiser", SERVER_OPTIMISERS[1:]),
    *(
        (
            f"federation.{name}",
            "federation.schedule",
            tuple(one for one in SCHEDULES if name in SCHEDULES[one]),
        )
        for name in sorted({name for names in SCHEDULES.values() for name in names})
    ),
)
"""(setting, other setting, values): the first is read only if the other has one of these values."""


def _formatted(value: object) -> str:
    """The value as written in TOML."""
    return (
        str(value).lower()
        if isinstance(value, bool)
        else repr(list(value) if isinstance(value, tuple) else value)
    )
