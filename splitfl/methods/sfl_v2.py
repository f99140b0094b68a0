"""`sfl-v2`: LoRA on both sides of the cut, one shared body.

SplitFed's SFLV2 (Thapa et al., AAAI'22) with low-rank adapters, as in SplitLoRA (Lin et al.,
arXiv 2407.00952). Uplink and downlink carry one activation and one gradient per step, and each client's
adapters and their mean per round.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Activation, Adapter, Gradient, Message, Reply
from splitfl.core.state import State, part, under
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods import per_client_cut
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.joint_step import answer_activations
from splitfl.methods.parts.local_update import AveragedClient, LocalParts, LocalUpdate, LocalUpdateSpec
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA, SPLITFED
from splitfl.methods.parts.server_model import BodyStep, ServerModel, answer_activation
from splitfl.methods.parts.split_pass import Backpropagation, SplitPass
from splitfl.models.token_rows import pack, unpack


class GradientUpdate:
    """One step of the head from the gradient at the cut; if it is lost, this step alone is skipped."""

    upload_interval = 1

    def __init__(self, trainer: ClientTrainer, passes: SplitPass) -> None:
        self._trainer = trainer
        self._passes = passes

    def begin(self, round_index: int, rank: int) -> None: ...

    def forward(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        trained = self._trainer.training_step(batch, round_index, step)
        return pack(self._passes.forward(batch, trained), context.get("mask"))

    def on_reply(self, reply: Reply | None, context: Mapping[str, Tensor]) -> bool:
        if not isinstance(reply, Gradient):
            self._passes.discard()
            return False
        self._passes.backward(unpack(reply.grad.to(self._trainer.piece.model.device), context.get("mask")))
        self._trainer.step()
        return True


class SflServer:
    """Trains the body on the activations of all clients in turn; averages the clients' adapters."""

    def __init__(self, body: ServerModel, client_adapters: ClientAdapters) -> None:
        self._body = body
        self._client_adapters = client_adapters

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return answer_activation(self._body, turn, message)
        return self._client_adapters.answer(turn, message)

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Activation]) -> list[ServerReply]:
        return answer_activations(self._body, turns, messages)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._client_adapters.receive(change)
        self._body.commit(turn, change if isinstance(change, BodyStep) else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._client_adapters.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._client_adapters.tensors | self._body.trained()

    def state(self) -> State:
        return under("body", self._body.state()) | under("heads", self._client_adapters.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._client_adapters.restore(part(state, "heads"))


def local_update(parts: LocalParts) -> LocalUpdate:
    """Backpropagation from the gradient at the cut."""
    passes = SplitPass(parts.trainer, parts.config.method.of(Backpropagation), parts.head)
    return GradientUpdate(parts.trainer, passes)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side."""
    trainer = ClientTrainer.of(pieces.head(), config)
    passes = SplitPass(trainer, config.method.of(Backpropagation))
    return AveragedClient(trainer, GradientUpdate(trainer, passes), batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side: with one cut, or with one cut per client."""
    if config.federation.client_cuts:
        return per_client_cut.server(pieces, config)
    return SflServer(ServerModel.of(pieces.body(), config), ClientAdapters.of(config, pieces.head))


_SPLITLORA = """@article{lin2024splitlora,
  title = {{SplitLoRA}: A Split Parameter-Efficient Fine-Tuning Framework for Large Language Models},
  author = {Lin, Zheng and Hu, Xuanjie and Zhang, Yuxin and Chen, Zhe and Fang, Zihan and Chen, Xianhao and
    Li, Ang and Vepakomma, Praneeth and Gao, Yue},
  journal = {arXiv preprint arXiv:2407.00952},
  year = {2024}
}"""

SPEC = spec.MethodSpec(
    about="basic LoRA: activations up, gradients down, one shared body",
    bibtex=(SPLITFED, _SPLITLORA, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_adapters((Activation, Gradient)),
    sends={"activation": spec.ANY_LOSS, "gradient": spec.ANY_LOSS},
    labels="sent",
    settings=Backpropagation,
    shared=spec.UPLOADS | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER | {"federation.client_cuts"},
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head",),
    asynchronous=True,
    single_pass=True,
    summable=True,
    server_batch=True,
    backpropagates=True,
    dropout=("head", "body"),
    shardable=True,
    local_update=LocalUpdateSpec(make=local_update, awaits_gradient=True),
    refusals=(per_client_cut.refuse_cuts,),
)
