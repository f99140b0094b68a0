"""Which settings go together: what each method declares of itself, and rules (setting, needs, where, why)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final

from splitfl.adapters.registry import ADAPTERS, trains_all
from splitfl.config import POLICIES, RunConfig
from splitfl.config.data import SCHEDULES, SERVER_OPTIMISERS
from splitfl.core.errors import ConfigError
from splitfl.federation.aggregators import AGGREGATORS, row
from splitfl.federation.over_the_air import over_the_air
from splitfl.federation.staleness import at_own_pace
from splitfl.methods.parts.spec import NO_ERASURE, ROW_MESSAGES, MethodSpec
from splitfl.methods.registry import METHODS, method
from splitfl.methods.settings import others, refuse_unread
from splitfl.models.families import FAMILIES, IMAGE_CLASSIFICATION


@dataclass(frozen=True, kw_only=True)
class Case:
    """The settings of a run, its method, and the model that it is to train."""

    config: RunConfig
    spec: MethodSpec
    kind: str
    model_type: str

    @property
    def trains_batch_norms(self) -> bool:
        """Whether running statistics are learnt."""
        sides = (self.config.adapter.head, self.config.adapter.body)
        return FAMILIES[self.model_type].has_batch_norms and any(map(trains_all, sides))


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`setting` must be one of `needs` in some cases; `why` says in which, with fields of the settings."""

    setting: str
    needs: tuple[object, ...] | Callable[[], tuple[object, ...]]
    where: Callable[[Case], bool]
    why: str

    def check(self, case: Case) -> None:
        """ConfigError where the setting is anything else."""
        got, able = _at(case.config, self.setting), self.needs() if callable(self.needs) else self.needs
        if got not in able and self.where(case):
            needs = " or ".join(map(_shown, able))
            why = self.why.format(**vars(case.config))
            raise ConfigError(f"{self.setting} must be {needs} {why}; got {_shown(got)}")


def _is_analog(name: str) -> Callable[[Case], bool]:
    return lambda case: name in case.config.analog.kinds


def _is_asynchronous(case: Case) -> bool:
    return at_own_pace(case.config.federation)


def _merges_products(case: Case) -> bool:
    return row(case.config.federation.aggregator).needs_individual_updates


def _holds(side: str, where: Callable[[Case], bool]) -> Callable[[Case], bool]:
    return lambda case: side in case.spec.holds and where(case)


def _has_ranks(case: Case) -> bool:
    return bool(case.config.federation.client_ranks)


def _kinds_of_lora() -> tuple[object, ...]:
    return tuple(name for name, kind in ADAPTERS.items() if kind.is_lora)


def _kinds_without_adapters() -> tuple[object, ...]:
    return tuple(name for name, kind in ADAPTERS.items() if kind.trains_all)


def _rules(
    where: Callable[[Case], bool],
    why: str,
    needs: Mapping[str, tuple[object, ...] | Callable[[], tuple[object, ...]]],
) -> list[Rule]:
    return [Rule(setting=setting, needs=its, where=where, why=why) for setting, its in needs.items()]


RULES: Final[tuple[Rule, ...]] = (
    *(
        rule
        for name in ROW_MESSAGES
        for rule in _rules(
            _is_analog(name),
            f"where analog.kinds has {name!r}, which is sent as it is and has no packets",
            {f"codec.{name}": ("none",), f"erasure.{name}": ("reliable",)},
        )
    ),
    *_rules(
        _merges_products,
        "with federation.aggregator {federation.aggregator!r}, which averages nothing (rolora, ffa, mean do)",
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
            (_has_ranks, "with federation.client_ranks, which are LoRA's"),
        )
        for rule in _rules(_holds(side, where), why, {f"adapter.{side}.kind": _kinds_of_lora})
    ),
    *_rules(
        _has_ranks,
        "with federation.client_ranks, since it compares the clients' tensors number by number",
        {"federation.robust": ("none",)},
    ),
    *_rules(
        lambda case: case.config.federation.schedule != "synchronous",
        "with federation.schedule {federation.schedule!r}, which is for links that each client has to itself",
        {"link.scenario": ("",)},
    ),
    *_rules(
        _is_asynchronous,
        "with federation.schedule {federation.schedule!r}, whose clients are in different rounds",
        {
            "federation.aggregator": ("ffa", "mean"),
            "federation.client_ranks": ((),),
            "method.in_flight": (1,),
            "analog.sum_adapters": (False,),
            "fault_tolerance.on_loss": ("abort",),
            "fault_tolerance.clients_per_round": (0,),
            "fault_tolerance.quorum": (0,),
            "fault_tolerance.step_s": (0.0,),
            "fault_tolerance.round_s": (0.0,),
        },
    ),
    *_rules(
        lambda case: case.kind == IMAGE_CLASSIFICATION,
        "for images, whose models attend to every patch",
        {"erasure.activation": tuple(one for one in POLICIES if one != "mask")},
    ),
    *_rules(
        lambda case: trains_all(case.config.adapter.head) or trains_all(case.config.adapter.body),
        "where the other side trains its own parameters: what comes out is one whole model",
        {"adapter.head.kind": _kinds_without_adapters, "adapter.body.kind": _kinds_without_adapters},
    ),
    *_rules(
        lambda case: case.trains_batch_norms,
        "where batch norms learn, whose statistics are of whole batches in order and are averaged",
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
)

READ_WITH: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
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
"""(setting, another one, its values): the first is read where the other has one of these values alone."""


def check(config: RunConfig, kind: str, num_blocks: int, model_type: str) -> None:
    """ConfigError for settings that exclude each other, or that the method does not read or cannot work with.

    `kind` is the task's kind of model, `model_type` the model's family.
    """
    case = Case(config=config, spec=method(config.method.name), kind=kind, model_type=model_type)
    refuse_unread(config)
    _check_alone(config)
    _check_declared(case)
    for rule in RULES:
        rule.check(case)
    _check_numbers(config)
    for name in (config.method.name, *others(config)):
        deepest = max((*config.auto.cuts, config.partition.cut)) if name != config.method.name else None
        cut = config.partition if deepest is None else replace(config.partition, cut=deepest)
        for refuse in METHODS[name].refusals:
            refuse(replace(config, partition=cut), kind, num_blocks)


def _check_alone(config: RunConfig) -> None:
    """ConfigError for a setting that is read only where another one has some value."""
    default = RunConfig()
    for setting, other, values in READ_WITH:
        got, plain = _at(config, setting), _at(default, setting)
        if got != plain and _at(config, other) not in values:
            readers = " and ".join(map(repr, values))
            raise ConfigError(
                f"{setting} is read with {other} {readers} alone: leave it at {plain}, got {got}"
            )


def _check_declared(case: Case) -> None:
    """ConfigError for what the method says of itself that it cannot do."""
    config, spec, name = case.config, case.spec, case.config.method.name
    federation = config.federation
    if federation.aggregator not in spec.aggregators:
        able = ", ".join(one for one in AGGREGATORS if one in spec.aggregators)
        raise ConfigError(
            f"the method {name!r} cannot work with federation.aggregator {federation.aggregator!r}; it can "
            f"with {able}"
        )
    if _is_asynchronous(case) and spec.asynchronous is not True:
        raise ConfigError(
            f"the method {name!r} cannot work with federation.schedule {federation.schedule!r}: "
            f"{spec.asynchronous}; it can with 'synchronous' and 'deadline'"
        )
    if case.trains_batch_norms and spec.single_pass is not True:
        raise ConfigError(
            f"the method {name!r} {spec.single_pass}, and the batch norms of a {case.model_type} model would "
            f"count it so: take {_able('single_pass')}, or a model without batch norms"
        )
    _check_erasure(case)
    if config.analog.sum_adapters:
        if spec.summable is not True:
            raise ConfigError(
                "analog.sum_adapters is for methods whose clients send the same tensors, not for "
                f"{name!r}: {spec.summable}; have {_able('summable')}"
            )
        over_the_air(config)
    if spec.forward_mode or config.method.derivative == "jvp":
        _check_forward_mode(case)


def _check_erasure(case: Case) -> None:
    """ConfigError for an erasure policy, or for noise on what is sent, that the method cannot bear."""
    config, name = case.config, case.config.method.name
    for kind in ROW_MESSAGES:
        policy, is_analog = getattr(config.erasure, kind), kind in config.analog.kinds
        if policy == "reliable" and not is_analog:
            continue
        its = case.spec.sends.get(kind)
        if its is None:
            raise ConfigError(
                f"the method {name!r} sends no {kind} that may be lost: leave erasure.{kind} reliable"
            )
        if is_analog and its.policies == NO_ERASURE:
            raise ConfigError(f"the method {name!r} cannot send its {kind} with noise: {its.why_not}")
        if not is_analog and policy not in its.policies:
            have = ", ".join(sorted({"reliable", *its.policies}))
            raise ConfigError(
                f"erasure.{kind} = {policy!r} is not for the method {name!r}: {its.why_not}; have {have}"
            )


def _check_forward_mode(case: Case) -> None:
    """ConfigError where clients differentiate in forward mode and a kind of adapter cannot."""
    for side in case.spec.holds:
        name = getattr(case.config.adapter, side).kind
        if (reason := ADAPTERS[name].forward_mode) is not True:
            raise ConfigError(
                f"adapter.{side}.kind {name!r} does not work in forward mode: {reason}; take another kind, "
                "or a method with method.derivative 'difference' or 'central'"
            )


def _check_numbers(config: RunConfig) -> None:
    """ConfigError for numbers that do not fit that of the clients, and for a deadline that is never."""
    federation = config.federation
    if federation.robust == "trimmed-mean" and federation.trim * federation.clients < 1:
        raise ConfigError(
            f"federation.trim must be at least 1 / {federation.clients} for {federation.clients} clients, or "
            f"nobody is trimmed; got {federation.trim}"
        )
    if len(federation.client_ranks) not in (0, federation.clients):
        raise ConfigError(
            f"federation.client_ranks must name one rank for each of the {federation.clients} clients, got "
            f"{len(federation.client_ranks)}"
        )
    if federation.schedule == "deadline" and not federation.deadline_s:
        raise ConfigError("federation.schedule 'deadline' needs federation.deadline_s above 0.0, got 0.0")


def _able(what: str) -> str:
    """The methods that can do something, by name."""
    return ", ".join(sorted(name for name, spec in METHODS.items() if getattr(spec, what) is True))


def _at(config: RunConfig, setting: str) -> Any:
    return reduce(getattr, setting.split("."), config)


def _shown(value: object) -> str:
    """As TOML has it."""
    return (
        str(value).lower()
        if isinstance(value, bool)
        else repr(list(value) if isinstance(value, tuple) else value)
    )
