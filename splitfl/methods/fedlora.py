"""`fedlora`: no cut, the reference. Every client finetunes the whole model on its own
data and uploads its adapters, which are averaged (FedAvg, McMahan et al., AISTATS'17, with LoRA)."""

from collections.abc import Mapping

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Adapter
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.split_pass import Backpropagation, WholePass


class FedLoraClient:
    """Finetunes the whole model for `steps` batches a round."""

    def __init__(
        self, trainer: ClientTrainer, batches: Batches, steps: int, settings: Backpropagation
    ) -> None:
        self._trainer = trainer
        self._pass = WholePass(trainer, settings)
        self._batches = batches
        self._steps = steps
        self.take_flops = trainer.take_flops
        self.state = trainer.state
        self.restore = trainer.restore

    def round(self, round_index: int) -> ClientRound:
        trainer, device = self._trainer, self._trainer.piece.model.device
        trainer.start_round((yield trainer.begin(round_index, 1)), round_index)
        losses: list[float] = []
        samples = 0
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(device)
            losses.append(self._pass.backpropagate(batch, trainer.training_step(batch, round_index, step)))
            trainer.step()
            samples += len(batch.ids_B)
        yield trainer.upload(round_index, samples, tuple(losses))


class FedLoraServer:
    """Averages the clients' adapters; holds no model."""

    def __init__(self, client_adapters: ClientAdapters) -> None:
        self._client_adapters = client_adapters
        self.compute = client_adapters.answer
        self.state = client_adapters.state
        self.restore = client_adapters.restore

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        if reply is not None and isinstance(reply.change, Adapter):
            self._client_adapters.receive(reply.change)

    def end_round(self, round_index: int) -> None:
        self._client_adapters.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return dict(self._client_adapters.tensors)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with the whole model."""
    trainer = ClientTrainer.of(pieces.whole(), config)
    return FedLoraClient(trainer, batches, steps, config.method.of(Backpropagation))


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, without a model."""
    return FedLoraServer(ClientAdapters.of(config, pieces.whole))


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
    server_batch=spec.NO_BODY,
    shardable=spec.NO_BODY,
    backpropagates=True,
    dropout=("head", "body"),
    refusals=(),
)
