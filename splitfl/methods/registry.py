"""The finetuning methods by name: one row each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from splitfl.config import RunConfig, one_of
from splitfl.data.loader import Batches
from splitfl.federation.aggregate import aggregator
from splitfl.methods.body import Body
from splitfl.methods.fedlora import FedClient, FedServer
from splitfl.methods.frozen import FrozenClient, FrozenServer
from splitfl.methods.learner import Learner
from splitfl.methods.seam import ClientMethod, ServerMethod
from splitfl.methods.sfl_v2 import SflClient, SflServer
from splitfl.partition.cut import Piece

Client = Callable[[Piece, Batches, int, RunConfig], ClientMethod]
"""From the client's piece and batches, the steps of a round and the settings."""

Server = Callable[[Piece | None, RunConfig], ServerMethod]
"""From the server's piece, None where the method has none there."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row: what it is, whether the model is cut for it, how its two sides are made, whom to cite."""

    about: str
    is_split: bool
    client: Client
    server: Server
    citations: tuple[str, ...]


def _learner(piece: Piece, config: RunConfig) -> Learner:
    return Learner(piece, aggregator(config.federation.aggregator), config.train)


def _body(piece: Piece | None, config: RunConfig) -> Body:
    assert piece is not None
    return Body(piece, config.train, config.method.in_flight)


METHODS: Final[Mapping[str, Method]] = {
    "sfl-v2": Method(
        about="basic LoRA: activations up, gradients down, one shared body",
        is_split=True,
        client=lambda piece, batches, steps, config: SflClient(_learner(piece, config), batches, steps),
        server=lambda piece, config: SflServer(_body(piece, config)),
        citations=("splitfed", "splitlora", "lora"),
    ),
    "frozen": Method(
        about="the head never learns: each sample's activation goes up once, nothing comes down",
        is_split=True,
        client=lambda piece, batches, steps, config: FrozenClient(piece, batches, steps),
        server=lambda piece, config: FrozenServer(_body(piece, config)),
        citations=("splitfrozen", "lora"),
    ),
    "fedlora": Method(
        about="no cut: clients finetune the whole model and send adapters (the reference)",
        is_split=False,
        client=lambda piece, batches, steps, config: FedClient(_learner(piece, config), batches, steps),
        server=lambda piece, config: FedServer(),
        citations=("fedavg", "lora"),
    ),
}


def method(name: str) -> Method:
    """The method of this name; ConfigError, with the nearest, where there is none."""
    one_of("method.name", name, METHODS)
    return METHODS[name]
