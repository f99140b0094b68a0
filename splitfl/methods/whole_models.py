"""What is refused where models are trained whole: half of one, and batch norms that would count twice."""

from typing import Final

from splitfl.adapters.registry import trains_all
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.models.families import FAMILIES

ABLE: Final = frozenset({"sfl-v2", "sfl-v1", "cse-fsl", "fsl-sage", "fedlora"})
"""Which pass each batch through each piece once, so that its statistics count once."""

IN_ROUNDS: Final = ("synchronous", "deadline")


def refuse_batch_norms(config: RunConfig, model_type: str) -> None:
    """ConfigError where running statistics would count a batch twice, or not have one value."""
    sides = (config.adapter.head, config.adapter.body)
    if not FAMILIES[model_type].has_batch_norms or not any(map(trains_all, sides)):
        return
    name, federation, method = config.method.name, config.federation, config.method
    if name not in ABLE:
        raise ConfigError(
            f"the method {name!r} passes a batch through its pieces more or less than once, and the batch "
            f"norms of a {model_type} model would count it so: take {', '.join(sorted(ABLE))}, or a model "
            "without batch norms"
        )
    for setting, is_wrong in (
        ("method.in_flight must be 1", method.in_flight != 1),
        ("method.micro_batch must be 0", method.micro_batch),
        ("method.checkpoint_head must be false", method.checkpoint_head),
        ("federation.schedule must be 'synchronous' or 'deadline'", federation.schedule not in IN_ROUNDS),
        ("federation.server_optimiser must be 'none'", federation.server_optimiser != "none"),
        ("federation.robust must be 'none'", federation.robust != "none"),
        ("analog.sum_adapters must be false", config.analog.sum_adapters),
    ):
        if is_wrong:
            raise ConfigError(
                f"{setting} where batch norms learn, as a {model_type} model's do: their statistics are "
                "of whole batches in order, and are averaged and no more"
            )


def refuse_half_full(config: RunConfig) -> None:
    """ConfigError where one side's own parameters are trained and the other's are not."""
    head, body = config.adapter.head, config.adapter.body
    if trains_all(head) != trains_all(body):
        whole = head.kind if trains_all(head) else body.kind
        raise ConfigError(
            f"adapter.head.kind and adapter.body.kind may only be {whole!r} together: what comes out is one "
            f"whole model; got {head.kind!r} and {body.kind!r}"
        )
