"""`fedlora`: no cut, the reference. Every client finetunes the whole model on its own
data and sends its adapters, which are averaged (McMahan et al., AISTATS'17, on LoRA)."""

from collections.abc import Mapping

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.split_pass import Backpropagation, hold_inputs_alone, parts


class FedClient:
    """Finetunes the whole model for `steps` batches a round."""

    def __init__(
        self, learner: ClientTrainer, batches: Batches, steps: int, settings: Backpropagation
    ) -> None:
        self._learner = learner
        self._size = settings.micro_batch
        self._is_checkpointed = settings.checkpoint_head
        if settings.checkpoint_head:
            hold_inputs_alone(learner.piece)
        self._batches = batches
        self._steps = steps
        self.take_flops = learner.take_flops
        self.state = learner.state
        self.restore = learner.restore

    def round(self, round_index: int) -> ClientRound:
        learner, device = self._learner, self._learner.piece.model.device
        learner.enter((yield learner.begin(round_index, 1)), round_index)
        losses: list[float] = []
        samples = 0
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(device)
            losses.append(self._descend(batch))
            learner.step()
            samples += len(batch.ids_B)
        yield learner.upload(round_index, samples, tuple(losses))

    def _descend(self, batch: Batch) -> float:
        """Leaves the gradient of the loss in the model; the loss."""
        learner, found = self._learner, 0.0
        for some in parts(batch.labels, self._size):
            loss = learner.piece(some.of(batch.inputs), {}, batch.labels[some.rows]).loss * some.weight
            loss.backward()
            found += loss.item()
        cost = learner.cost(batch.shape_BT)
        learner.flops += cost.step_flops + self._is_checkpointed * cost.forward_flops
        return found


class FedServer:
    """Averages; trains nothing itself."""

    def __init__(self, heads: ClientAdapters) -> None:
        self._heads = heads
        self.compute = heads.answer
        self.state = heads.state
        self.restore = heads.restore

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        self._heads.take(outcome)

    def end_round(self, round_index: int) -> None:
        self._heads.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return dict(self._heads.tensors)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side, with the whole model."""
    learner = ClientTrainer.of(pieces.whole(), config)
    return FedClient(learner, batches, steps, config.method.of(Backpropagation))


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, which has no model."""
    return FedServer(ClientAdapters.of(config, pieces.whole))


_FEDAVG = """@inproceedings{mcmahan2017communication,
  title = {Communication-Efficient Learning of Deep Networks from Decentralized Data},
  author = {McMahan, Brendan and Moore, Eider and Ramage, Daniel and Hampson, Seth and
    Ag{\"u}era y Arcas, Blaise},
  booktitle = {Artificial Intelligence and Statistics},
  year = {2017}
}"""

SPEC = spec.MethodSpec(
    about="no cut: clients finetune the whole model and send adapters (the reference)",
    bibtex=(_FEDAVG, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_adapters(),
    sends={},
    settings=Backpropagation,
    shared=spec.UPLOADS | spec.OPTIMISER,
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head", "body"),
    asynchronous=True,
    single_pass=True,
    summable=True,
    backpropagates=True,
    refusals=(),
)
