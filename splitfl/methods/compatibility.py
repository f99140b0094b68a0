"""Checks of settings against each other: the methods' specifications, and the rules of rules.py."""

from dataclasses import replace

from splitfl.adapters.registry import ADAPTERS
from splitfl.config import RunConfig, value_of
from splitfl.core.errors import ConfigError
from splitfl.federation.aggregators import AGGREGATORS
from splitfl.federation.over_the_air import over_the_air
from splitfl.methods.parts.optimiser import refuse_accumulation
from splitfl.methods.parts.spec import NO_ERASURE, ROW_MESSAGES
from splitfl.methods.parts.zeroth_order_client import Estimate
from splitfl.methods.registry import METHODS, method
from splitfl.methods.rules import READ_WITH, RULES, Case, is_asynchronous
from splitfl.methods.settings import alternatives, refuse_unread
from splitfl.models.families import IMAGE_CLASSIFICATION, SEQ2SEQ_LM, family_of


def check(config: RunConfig, kind: str, num_blocks: int, model_type: str) -> None:
    """ConfigError for settings that exclude each other, or that the method does not read or support.

    `kind` is the task's kind of model, `num_blocks` its number of blocks, `model_type` its family.
    """
    case = Case(config=config, spec=method(config.method.name), kind=kind, model_type=model_type)
    refuse_unread(config)
    _check_alone(config)
    _check_declared(case)
    for rule in RULES:
        rule.check(case)
    _check_numbers(case)
    for name in (config.method.name, *alternatives(config)):
        deepest = max((*config.auto.cuts, config.partition.cut)) if name != config.method.name else None
        cut = config.partition if deepest is None else replace(config.partition, cut=deepest)
        for refuse in METHODS[name].refusals:
            refuse(replace(config, partition=cut), kind, num_blocks)


def _check_alone(config: RunConfig) -> None:
    """ConfigError for a setting that is read only with certain values of another one."""
    default = RunConfig()
    for setting, other, values in READ_WITH:
        got, plain = value_of(config, setting), value_of(default, setting)
        if got != plain and value_of(config, other) not in values:
            readers = " and ".join(map(repr, values))
            raise ConfigError(
                f"{setting} is read only with {other} {readers}: leave it at {plain}, got {got}"
            )


def _check_declared(case: Case) -> None:
    """ConfigError for settings that the method's specification excludes."""
    config, spec, name = case.config, case.spec, case.config.method.name
    federation = config.federation
    if federation.aggregator not in spec.aggregators:
        able = ", ".join(one for one in AGGREGATORS if one in spec.aggregators)
        raise ConfigError(
            f"the method {name!r} does not support federation.aggregator {federation.aggregator!r}; it "
            f"supports {able}"
        )
    if is_asynchronous(case) and spec.asynchronous is not True:
        raise ConfigError(
            f"the method {name!r} does not support federation.schedule {federation.schedule!r}: "
            f"{spec.asynchronous}; it supports 'synchronous' and 'deadline'"
        )
    if case.trains_batch_norms and spec.single_pass is not True:
        raise ConfigError(
            f"the method {name!r} {spec.single_pass}, so the batch norms of a {case.model_type} model would "
            f"not count it once: use {_supporting('single_pass')}, or a model without batch norms"
        )
    _check_erasure(case)
    _check_dropout(case)
    _check_shard(case)
    if config.analog.sum_adapters:
        if spec.summable is not True:
            raise ConfigError(
                "analog.sum_adapters requires a method whose clients send the same tensors, got "
                f"{name!r}: {spec.summable}; have {_supporting('summable')}"
            )
        over_the_air(config)
    estimate = config.method.find(Estimate)
    if spec.forward_mode or (estimate is not None and estimate.derivative == "jvp"):
        _check_forward_mode(case)


def _check_erasure(case: Case) -> None:
    """ConfigError for an erasure policy or analog transmission that the method does not tolerate."""
    config, name = case.config, case.config.method.name
    for kind in ROW_MESSAGES:
        policy, is_analog = getattr(config.erasure, kind), kind in config.analog.kinds
        if policy == "reliable" and not is_analog:
            continue
        tolerance = case.spec.sends.get(kind)
        if tolerance is None:
            raise ConfigError(
                f"the method {name!r} sends no {kind} that may be lost: leave erasure.{kind} reliable"
            )
        if is_analog and tolerance.policies == NO_ERASURE:
            raise ConfigError(
                f"the method {name!r} does not support analog.kinds {kind!r}: {tolerance.why_not}"
            )
        if not is_analog and policy not in tolerance.policies:
            have = ", ".join(sorted({"reliable", *tolerance.policies}))
            raise ConfigError(
                f"erasure.{kind} = {policy!r} is not for the method {name!r}: {tolerance.why_not}; "
                f"have {have}"
            )


def _check_dropout(case: Case) -> None:
    """ConfigError for dropout on a side that a method of the run does not train at named steps."""
    config = case.config
    rates = {side: value_of(config, f"adapter.{side}.dropout") for side in ("head", "body")}
    for name in (config.method.name, *alternatives(config)):
        for side, rate in rates.items():
            if rate and side not in METHODS[name].dropout:
                have = ", ".join(sorted(one for one, spec in METHODS.items() if side in spec.dropout))
                raise ConfigError(
                    f"adapter.{side}.dropout must be 0.0 with the method {name!r}, got {rate}: masks are "
                    f"drawn for steps with backpropagation; have {have}"
                )
    for key in ("dropout", "bias", "block_size"):
        head, body = (value_of(config, f"adapter.{side}.{key}") for side in ("head", "body"))
        if head != body and None not in (head, body) and "adapter.head" in case.spec.reads:
            raise ConfigError(
                f"adapter.head.{key} must be that of adapter.body, {body!r}, since the exported adapter has "
                f"one; got {head!r}"
            )


def _check_shard(case: Case) -> None:
    """ConfigError for a method or a model whose body cannot be divided among ranks."""
    shard, name = case.config.server.shard, case.config.method.name
    if not case.config.server.is_sharded:
        return
    if case.spec.shardable is not True:
        raise ConfigError(
            f"server.shard must be 'none' with the method {name!r}, which {case.spec.shardable}, got "
            f"{shard!r}; have {_supporting('shardable')}"
        )
    if case.kind in (SEQ2SEQ_LM, IMAGE_CLASSIFICATION):
        raise ConfigError(
            f"server.shard must be 'none' for {case.kind}, got {shard!r}: only bodies of text models without "
            "a decoder after their encoder are divided among ranks"
        )


def _check_forward_mode(case: Case) -> None:
    """ConfigError for a model, or a kind of adapter that the clients train, without forward mode."""
    if (reason := family_of(case.model_type).forward_mode) is not True:
        raise ConfigError(
            f"a {case.model_type} model does not work in forward mode: {reason}; take a method with "
            "method.derivative 'difference' or 'central'"
        )
    for side in case.spec.holds:
        name = getattr(case.config.adapter, side).kind
        if (reason := ADAPTERS[name].forward_mode) is not True:
            raise ConfigError(
                f"adapter.{side}.kind {name!r} does not work in forward mode: {reason}; take another kind, "
                "or a method with method.derivative 'difference' or 'central'"
            )


def _check_numbers(case: Case) -> None:
    """ConfigError for numbers that do not fit the clients or their steps, or a deadline of 0."""
    config, federation = case.config, case.config.federation
    for steps in case.spec.local_steps(config):
        if steps:  # 0 is a pass over data that this side may not have
            refuse_accumulation(config.train, steps)
    if federation.robust == "trimmed-mean" and federation.trim * federation.clients < 1:
        raise ConfigError(
            f"federation.trim must be at least 1 / {federation.clients} for {federation.clients} clients, or "
            f"no update is trimmed; got {federation.trim}"
        )
    most = config.fault_tolerance.clients_per_round or federation.clients
    if config.method.server_batch > most:
        raise ConfigError(
            f"method.server_batch must be at most the {most} clients of a round, got "
            f"{config.method.server_batch}"
        )
    if len(federation.client_ranks) not in (0, federation.clients):
        raise ConfigError(
            f"federation.client_ranks must name one rank for each of the {federation.clients} clients, got "
            f"{len(federation.client_ranks)}"
        )
    if federation.schedule == "deadline" and not federation.deadline_s:
        raise ConfigError("federation.schedule 'deadline' needs federation.deadline_s above 0.0, got 0.0")


def _supporting(what: str) -> str:
    """The names of the methods whose specification has True in this field."""
    return ", ".join(sorted(name for name, spec in METHODS.items() if getattr(spec, what) is True))
