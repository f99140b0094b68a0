"""Records what the server receives: a bounded sample of each observed round."""

# B batch, T tokens, N real tokens of a batch, D hidden

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Activation, Begin, Gradient, Message, Output
from splitfl.methods.parts.method import Turn
from splitfl.privacy.observation import Observation, ObservedSample


class MessageRecorder:
    """Copies the first samples of each client in every observed round; changes nothing.

    The quota of `privacy.samples` is divided among the clients, so that what is recorded does not depend on
    the order in which their messages arrive. A message that is received again is recorded once. `trained`
    returns the server's trained tensors, which are copied as the round begins. Thread-safe.
    """

    def __init__(self, config: RunConfig, trained: Callable[[], Mapping[str, Tensor]]) -> None:
        self._privacy = config.privacy
        self._clients, self._rounds = config.federation.clients, config.federation.rounds
        self._read_trained = trained
        self._lock = threading.Lock()
        self._trained: dict[int, dict[str, Tensor]] = {}
        self._samples: dict[tuple[int, int, int], list[ObservedSample]] = {}
        self._counts: Counter[tuple[int, int]] = Counter()

    def exchanged(self, turn: Turn, message: Message, reply: Message) -> None:
        """The server received a message, with its erasures and noise, and computed this reply."""
        if not self._privacy.observes(turn.round, self._rounds):
            return
        with self._lock:
            match message:
                case Begin() if turn.round not in self._trained:
                    found = self._read_trained()
                    self._trained[turn.round] = {name: value.clone() for name, value in found.items()}
                case Activation(hidden=Tensor()):
                    self._add(turn, message, reply)
                case Gradient():
                    self._add_gradient(turn, message)

    def ended(self, round_index: int) -> Observation | None:
        """The observation of a round that has ended, None if it was not observed; forgets the round."""
        if not self._privacy.observes(round_index, self._rounds):
            return None
        with self._lock:
            keys = sorted(key for key in self._samples if key[1] == round_index)
            samples = tuple(sample for key in keys for sample in self._samples.pop(key))
            self._counts = Counter({key: n for key, n in self._counts.items() if key[1] != round_index})
            return Observation(round=round_index, samples=samples, trained=self._trained.pop(round_index, {}))

    def _add(self, turn: Turn, message: Activation, reply: Message) -> None:
        key, left = (turn.client, turn.round, turn.lap), self._quota(turn.client)
        left -= self._counts[turn.client, turn.round]
        if key in self._samples or left <= 0:
            return
        assert message.hidden is not None
        mask = message.context.get("mask")
        hidden = _rows_of(message.hidden, mask)
        outputs = _rows_of(reply.hidden, mask) if isinstance(reply, Output) else [None] * len(hidden)
        self._samples[key] = [
            ObservedSample(
                client=turn.client,
                lap=turn.lap,
                number=int(message.ids_B[index]),
                batch_size=len(message.ids_B),
                places_T=_places(mask, index, len(hidden[index])),
                hidden_TD=hidden[index].detach().cpu().clone(),
                output_TD=None if (output := outputs[index]) is None else output.detach().cpu().clone(),
            )
            for index in range(min(left, len(message.ids_B)))
        ]
        self._counts[turn.client, turn.round] += len(self._samples[key])

    def _add_gradient(self, turn: Turn, message: Gradient) -> None:
        """Adds a gradient to the samples of the message before, if these were recorded."""
        key = (turn.client, turn.round, turn.lap - 1)
        samples = self._samples.get(key, [])
        numbers = message.ids_B[: len(samples)].tolist()
        if not samples or numbers != [sample.number for sample in samples]:
            return
        rows = message.grad.reshape(-1, message.grad.shape[-1])
        width = 0 if message.grad.ndim == 2 else message.grad.shape[1]
        counts = [width or len(sample.places_T) for sample in samples]
        found = torch.split(rows[: sum(counts)], counts)
        self._samples[key] = [
            replace(sample, grad_TD=grad_TD.detach().cpu().clone())
            for sample, grad_TD in zip(samples, found, strict=True)
        ]

    def _quota(self, client: int) -> int:
        share, rest = divmod(self._privacy.samples, self._clients)
        return share + (client < rest)


def _rows_of(hidden: Tensor, mask_BT: Tensor | None) -> list[Tensor]:
    """The rows (T, D) of each sample; of several perturbed hidden states of a sample those of the first."""
    if hidden.ndim > (3 if mask_BT is None else 2):
        hidden = hidden[0]
    if mask_BT is None:
        return list(hidden)
    return list(torch.split(hidden, mask_BT.sum(-1).tolist()))


def _places(mask_BT: Tensor | None, index: int, width: int) -> Tensor:
    return torch.arange(width) if mask_BT is None else mask_BT[index].nonzero()[:, 0].cpu()
