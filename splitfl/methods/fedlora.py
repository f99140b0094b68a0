"""`fedlora`: no cut, the reference. Every client finetunes the whole model on its own
data and sends its adapters, which are averaged (McMahan et al., AISTATS'17, on LoRA)."""

from collections.abc import Mapping

from torch import Tensor

from splitfl.data.loader import Batches
from splitfl.federation.aggregate import Averager
from splitfl.messages import Adapter, Control, Message
from splitfl.methods.learner import Learner
from splitfl.methods.seam import ClientRound, Outcome, Ticket, unexpected
from splitfl.state import State


class FedClient:
    """Finetunes the whole model for `steps` batches a round."""

    def __init__(self, learner: Learner, batches: Batches, steps: int) -> None:
        self._learner = learner
        self._batches = batches
        self._steps = steps
        self.take_flops = learner.take_flops

    def round(self, round_index: int) -> ClientRound:
        learner, model = self._learner, self._learner.piece
        learner.enter((yield learner.begin(round_index, 1)), round_index)
        losses: list[float] = []
        samples = 0
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(model.model.device)
            output = model(batch.inputs, {}, batch.labels)
            output.loss.backward()
            learner.step()
            learner.flops += learner.cost(batch.inputs["input_ids"].shape).step_flops
            losses.append(output.loss.item())
            samples += len(batch.ids_B)
        yield learner.upload(round_index, samples, tuple(losses))

    def state(self) -> State:
        return self._learner.state()

    def restore(self, state: State) -> None:
        self._learner.restore(state)


class FedServer:
    """Averages; trains nothing itself."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._averager = Averager()

    def compute(self, ticket: Ticket, message: Message) -> Outcome:
        match message:
            case Adapter():
                done = Control(ask="done", round=ticket.round)
                return Outcome(reply=done, losses=message.losses, samples=message.samples, change=message)
            case Control(ask="begin"):
                news = self._averager.since(int(message.values.get("version", 0)))
                return Outcome(reply=news or Control(ask="done", round=ticket.round))
        raise unexpected(self._method, message)

    def commit(self, ticket: Ticket, outcome: Outcome | None) -> None:
        if outcome is not None and isinstance(outcome.change, Adapter):
            self._averager.receive(outcome.change)

    def end_round(self, round_index: int) -> None:
        self._averager.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return dict(self._averager.tensors)

    def state(self) -> State:
        return self._averager.state()

    def restore(self, state: State) -> None:
        self._averager.restore(state)
