"""Refuses attacks that do not apply to a run, before anything is loaded."""

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Gradient
from splitfl.methods.parts.spec import MethodSpec
from splitfl.methods.registry import METHODS
from splitfl.models.families import FAMILIES, IMAGE_CLASSIFICATION, SEQUENCE_CLASSIFICATION
from splitfl.privacy.registry import ATTACKS
from splitfl.privacy.spec import AttackSpec
from splitfl.transport.registry import transport


def check_probes(config: RunConfig, kind: str, problem_type: str, model_type: str) -> None:
    """ConfigError for probes that the method, the model or the transport excludes.

    `kind` is the task's kind of model, `problem_type` the loss of a classifier.
    """
    for name in config.privacy.probes:
        if why := why_not(name, config, kind, problem_type, model_type):
            raise ConfigError(f"privacy.probes must not name {name!r} here: it {why}")
    if config.privacy.probes:
        _check_texts(config)


def why_not(name: str, config: RunConfig, kind: str, problem_type: str, model_type: str) -> str:
    """Why this attack does not apply to a run with these settings; "" if it does."""
    spec, method = ATTACKS[name], METHODS[config.method.name]
    return (
        _of_settings(config)
        or _of_method(spec, method, config.method.name)
        or _of_task(spec, config, kind, problem_type)
        or spec.refuse(FAMILIES[model_type], kind)
    )


def _of_settings(config: RunConfig) -> str:
    if config.federation.client_cuts or config.auto.every:
        return "needs one cut for all clients, not federation.client_cuts or auto.every"
    if config.federation.schedule not in ("synchronous", "deadline"):
        return f"needs clients in the same round, not federation.schedule {config.federation.schedule!r}"
    return ""


def _of_method(spec: AttackSpec, method: MethodSpec, name: str) -> str:
    if spec.reads == "activation" and "activation" not in method.signature.row_messages():
        return f"needs hidden states, and clients of {name!r} send none"
    if spec.reads == "gradient" and all(sent is not Gradient for sent, _ in method.signature.step):
        sends = "the labels themselves" if method.labels == "sent" else "none"
        return f"needs gradients from clients, and those of {name!r} send {sends}"
    return ""


def _of_task(spec: AttackSpec, config: RunConfig, kind: str, problem_type: str) -> str:
    has_classes = kind in (SEQUENCE_CLASSIFICATION, IMAGE_CLASSIFICATION)
    if spec.recovers == "labels" and not (has_classes and problem_type == "single_label_classification"):
        return f"recovers the class of a sample, and those of task {config.task.name!r} have none or several"
    if spec.recovers == "tokens" and kind == IMAGE_CLASSIFICATION:
        return "recovers tokens, of which images have none"
    if spec.recovers == "tokens" and config.task.name == "sft" and config.task.packing == "pack":
        return "needs one text in a sample, not task.packing 'pack'"
    return ""


def _check_texts(config: RunConfig) -> None:
    spec = transport(config.transport.name)
    if config.privacy.show_texts and not (spec.in_process or spec.encrypts(config.transport)):
        raise ConfigError(
            f"privacy.show_texts must be false with transport.name {config.transport.name!r}, which does not "
            "encrypt what crosses with these settings; got true"
        )
