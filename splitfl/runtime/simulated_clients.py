"""Where the clients of a run in one process compute: in its thread, or elsewhere and at the same time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch

from splitfl.core.messages import Message
from splitfl.data.loader import Batches
from splitfl.methods.parts.method import ClientMethod
from splitfl.setup.experiment import Experiment
from splitfl.setup.shared_clients import SharedClients
from splitfl.wire.codec_meter import CodecMeter

Step = Callable[[], Message | None]
"""What a client computes up to its next message; None at the end of its round."""


class SimulatedClients(Protocol):
    """The client methods of a run, and how their steps are executed."""

    def batches(self, client: int) -> Batches:
        """This client's data."""

    def method(self, client: int, meter: CodecMeter) -> ClientMethod:
        """This client's side of the method; raises ConfigError or DataError."""

    def start(self, step: Step) -> Step:
        """Starts a step; the returned function waits for its message. A client has one step at a time."""


class InThisThread:
    """See SimulatedClients."""

    def __init__(self, experiment: Experiment) -> None:
        clients = SharedClients(experiment)
        self.method, self.batches = clients.method, clients.batches
        self.start = in_turn(experiment.config.client.threads)


def in_turn(num_threads: int) -> Callable[[Step], Step]:
    """A `SimulatedClients.start` that executes each step at once, with `num_threads` threads of torch."""

    def start(step: Step) -> Step:
        with threads(num_threads):
            message = step()
        return lambda: message

    return start


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets torch's number of threads within the context."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


OpenClients = Callable[[Experiment], AbstractContextManager[SimulatedClients]]
"""The clients of an experiment, within the context; raises ConfigError where they cannot be simulated so."""


def in_this_thread(experiment: Experiment) -> AbstractContextManager[SimulatedClients]:
    """Clients that compute one after another; see OpenClients."""
    return nullcontext(InThisThread(experiment))
