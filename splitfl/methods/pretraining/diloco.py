"""`diloco`: no cut; clients take many local steps, the server steps on their outer gradients.

DiLoCo (Douillard et al., arXiv 2311.08105). A client's outer gradient is its tensors before a round minus
those after. Clients send their tensors, so that it is computed in one place; `codec.adapter_up` and
`codec.adapter_down` send differences. Outer SGD with rate 1 is `fedlora`.

With `method.pace` `speed` a client takes H_c = max(1, ceil(H speed_c / max speed)) local steps a round (DyLU,
Liu et al., arXiv 2401.09135), so that all need about the same time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from torch import Tensor

from splitfl.config import RunConfig, group, one_of
from splitfl.config.codec import stages_of
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Adapter, Begin, Done, Message
from splitfl.core.state import State, number_in, whole
from splitfl.data.loader import Batches
from splitfl.federation.server_optimiser import OuterOptimiser
from splitfl.methods import fedlora
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.split_pass import Backpropagation
from splitfl.methods.pretraining.inner_loop import InnerLoop, inner_trainer, refuse_epochs


@dataclass(frozen=True, kw_only=True)
class DilocoSettings:
    """The outer optimiser, the inner loop, and its memory saving.

    `pace` is `equal`: every client takes the steps of [federation]; or `speed`: in proportion to its
    `federation.client_flops`, the fastest `federation.local_steps`.
    """

    outer: OuterOptimiser = group(OuterOptimiser)
    pace: str = "equal"
    inner: InnerLoop = group(InnerLoop)
    memory: Backpropagation = group(Backpropagation)

    def __post_init__(self) -> None:
        one_of("method.pace", self.pace, ("equal", "speed"))


class DilocoServer:
    """Averages the clients' tensors, steps on the outer gradient, and counts the batches handed out."""

    def __init__(self, client_adapters: ClientAdapters, steps: Sequence[int]) -> None:
        """`steps` has each client's local steps per round."""
        self._client_adapters = client_adapters
        self._steps = steps
        self._handed_out = 0

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        answer = self._client_adapters.answer(turn, message)
        if not isinstance(message, Begin):
            return answer
        assert isinstance(answer.reply, Adapter | Done)
        reply = replace(answer.reply, first_batch=self._handed_out)
        return replace(answer, reply=reply, change=self._steps[turn.client])

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._client_adapters.receive(change)
        elif change is not None:
            self._handed_out += change

    def end_round(self, round_index: int) -> None:
        self._client_adapters.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return dict(self._client_adapters.tensors)

    def state(self) -> State:
        return {**self._client_adapters.state(), "handed_out": whole(self._handed_out)}

    def restore(self, state: State) -> None:
        self._client_adapters.restore(state)
        self._handed_out = number_in(state, "handed_out")


def local_steps(config: RunConfig) -> tuple[int, ...]:
    """Each client's local steps per round."""
    steps, speeds = spec.declared_steps(config), config.federation.client_flops
    if not speeds or config.method.of(DilocoSettings).pace == "equal":
        return steps
    most = max(speeds)
    return tuple(max(1, ceil(own * speed / most)) for own, speed in zip(steps, speeds, strict=True))


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with the whole model."""
    trainer = inner_trainer(pieces.whole(), config, local_steps(config))
    return fedlora.FedLoraClient(trainer, batches, steps, config.method.of(Backpropagation))


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with the trained tensors alone."""
    optimiser = config.method.of(OuterOptimiser).made()
    return DilocoServer(ClientAdapters.of(config, pieces.whole, optimiser=optimiser), local_steps(config))


def refuse_pace(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for steps by speed without speeds, or where each client's steps are given."""
    federation = config.federation
    if config.method.of(DilocoSettings).pace == "equal":
        return
    if not federation.client_flops:
        raise ConfigError(
            "federation.client_flops must have each client's speed with method.pace 'speed', got []"
        )
    if federation.client_steps:
        raise ConfigError(
            "federation.client_steps must be [] with method.pace 'speed', which gives each client's steps; "
            f"got {list(federation.client_steps)}"
        )


def refuse_sparse_momentum(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for top-k updates with an outer momentum: error feedback is their momentum already."""
    outer = config.method.of(OuterOptimiser)
    if outer.has_momentum and any(name == "topk" for name, _ in stages_of(config.codec.adapter_up)):
        raise ConfigError(
            f"method.outer_optimiser must be 'sgd' with codec.adapter_up {config.codec.adapter_up!r}: what "
            "topk leaves out comes later by codec.error_feedback, and a momentum would apply it to other "
            f"steps (SparseLoCo, arXiv 2508.15706); got {outer.outer_optimiser!r}. uniform goes with any"
        )


_DILOCO = """@misc{douillard2023diloco,
  title = {{DiLoCo}: Distributed Low-Communication Training of Language Models},
  author = {Douillard, Arthur and Feng, Qixuan and Rusu, Andrei A. and Chhaparia, Rachita and Donchev, Yani
    and Kuncoro, Adhiguna and Ranzato, Marc'Aurelio and Szlam, Arthur and Shen, Jiajun},
  year = {2023},
  eprint = {2311.08105},
  archivePrefix = {arXiv}
}"""

_DELAYED_NESTEROV = """@misc{liu2024asynchronous,
  title = {Asynchronous Local-{SGD} Training for Language Modeling},
  author = {Liu, Bo and Chhaparia, Rachita and Douillard, Arthur and Kale, Satyen and Rusu, Andrei A. and
    Shen, Jiajun and Szlam, Arthur and Ranzato, Marc'Aurelio},
  year = {2024},
  eprint = {2401.09135},
  archivePrefix = {arXiv}
}"""

SPEC = replace(
    fedlora.SPEC,
    about="no cut: many local steps, and an outer optimiser on the clients' outer gradients",
    bibtex=(_DILOCO, _DELAYED_NESTEROV),
    client=client,
    server=server,
    settings=DilocoSettings,
    shared=spec.HEAD | spec.ROBUST | spec.OPTIMISER,
    aggregators=spec.FACTORS,
    single_pass="extrapolates tensors by an outer optimiser",
    refusals=(refuse_epochs, refuse_pace, refuse_sparse_momentum),
    local_steps=local_steps,
)
