"""`sfl-v2`: basic LoRA on both sides of the cut, one shared body.

SplitFed's second version (Thapa et al., AAAI'22) with low-rank adapters, as SplitLoRA
has it (Lin et al., arXiv 2407.00952). Per step one activation goes up and one gradient
comes down; per round each client's adapter goes up and the federation's comes down.
"""

# B batch, T tokens, D hidden, N real tokens of a batch

from collections.abc import Generator, Mapping

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Activation, Gradient, Message, Reply
from splitfl.core.state import State, part, under
from splitfl.data.loader import Batches
from splitfl.methods import controlled, per_client_cut
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer, pack, unpack
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA, SPLITFED
from splitfl.methods.parts.server_model import ServerModel, answer_activation
from splitfl.methods.parts.split_pass import Backpropagation, SplitPass


class SflClient:
    """Runs the head; learns from the gradient that comes back."""

    def __init__(
        self, learner: ClientTrainer, batches: Batches, steps: int, settings: Backpropagation
    ) -> None:
        self._learner = learner
        self._passes = SplitPass(learner, settings)
        self._batches = batches
        self._num_steps = steps
        self.take_flops = learner.take_flops
        self.state = learner.state
        self.restore = learner.restore

    def round(self, round_index: int) -> ClientRound:
        return self._learner.round(round_index, self._num_steps + 1, self._steps(round_index))

    def _steps(self, round_index: int) -> Generator[Message, Reply, int]:
        learner, head, samples = self._learner, self._learner.piece, 0
        for step in range(self._num_steps):
            batch = self._batches.batch(round_index * self._num_steps + step).to(head.model.device)
            hidden_BTD = self._passes.forth(batch)
            context = head.context_of(batch.inputs)
            reply = yield Activation(
                ids_B=batch.ids_B,
                hidden=pack(hidden_BTD, context.get("mask")),
                context=context,
                labels=batch.labels,
            )
            if isinstance(reply, Gradient):  # a lost one costs this step, no more
                self._passes.back(unpack(reply.grad.to(hidden_BTD.device), context.get("mask")))
                learner.step()
                samples += len(batch.ids_B)
        return samples


class SflServer:
    """Runs the body on every client's activations in turn; averages the heads' adapters."""

    def __init__(self, body: ServerModel, heads: ClientAdapters) -> None:
        self._body = body
        self._heads = heads

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return answer_activation(self._body, ticket, message)
        return self._heads.answer(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        self._body.commit(ticket.position, self._heads.take(outcome))

    def end_round(self, round_index: int) -> None:
        self._heads.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._heads.tensors | self._body.trained()

    def state(self) -> State:
        return under("body", self._body.state()) | under("heads", self._heads.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._heads.restore(part(state, "heads"))


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side, or that of a run that is planned from round to round."""
    if config.auto.every:
        return controlled.client(pieces, batches, steps, config)
    return SflClient(
        ClientTrainer.of(pieces.head(), config), batches, steps, config.method.of(Backpropagation)
    )


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side: with one cut, with a cut for each client, or planned from round to round."""
    if config.federation.client_cuts:
        of_several_cuts = controlled.server if config.auto.every else per_client_cut.server
        return of_several_cuts(pieces, config)
    return SflServer(ServerModel.of(pieces, config), ClientAdapters.of(config, pieces.head))


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
    settings=Backpropagation,
    shared=spec.UPLOADS | spec.BODY | spec.IN_FLIGHT | {"federation.client_cuts"},
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head",),
    asynchronous=True,
    single_pass=True,
    summable=True,
    backpropagates=True,
    refusals=(per_client_cut.refuse_cuts,),
)
