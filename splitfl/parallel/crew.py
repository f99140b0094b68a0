"""The ranks of a body as one server: rank 0 speaks with the clients, every rank runs the same method.

Each call of the method on rank 0 becomes an order to all other ranks, which make the same call with the same
message at the same time. What a call computes does not depend on the rank, so only rank 0's reply is used.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor

from splitfl.core.allocator import peak_resident_bytes
from splitfl.core.errors import ConfigError, PeerLost, WireError
from splitfl.core.messages import Message
from splitfl.core.state import State
from splitfl.evaluation.whole_model import Measured
from splitfl.methods.parts.method import ServerMethod, ServerReply, Turn
from splitfl.parallel.crew_model import CrewModel
from splitfl.parallel.orders import Order, decoded, encoded
from splitfl.parallel.ranks import Ranks

MakeMethod = Callable[[], tuple[ServerMethod, CrewModel]]
"""Makes this rank's method, and the unsplit model on its body."""


class Crew:
    """The ranks as rank 0 sees them: `order` and what follows it are one step, under one lock."""

    def __init__(self, ranks: Ranks, timeout_s: float) -> None:
        """A thread sends an order at least every third of `timeout_s`, for which the others wait."""
        self.ranks = ranks
        self.lock = threading.RLock()
        self._interval_s = timeout_s / 3
        self._ordered_s = time.monotonic()
        self._is_over = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="heartbeats to the ranks", daemon=True)
        self._beats.start()

    def order(self, order: Order) -> None:
        """Tells all other ranks what this one does next. Raises PeerLost if one is lost."""
        self.ranks.shared(encoded(order))
        self._ordered_s = time.monotonic()

    def memory(self, base_bytes: int) -> list[Mapping[str, Any]]:
        """The peak and initial resident memory of every rank above 0, in bytes."""
        with self.lock:
            self.order(Order(verb="memory"))
            return _memory_rows(self.ranks, base_bytes)

    def close(self) -> None:
        """Dismisses the other ranks."""
        self._is_over.set()
        self._beats.join()
        with suppress(PeerLost):
            self.order(Order(verb="stop"))

    def _beat(self) -> None:
        while not self._is_over.wait(self._interval_s / 10):
            with self.lock:
                if time.monotonic() - self._ordered_s < self._interval_s:
                    continue
                try:
                    self.order(Order(verb="idle"))
                    self.ranks.gathered(0)
                except PeerLost:
                    return  # the next order raises it, too


class CrewServer:
    """The server's method on rank 0; see ServerMethod."""

    def __init__(self, crew: Crew, make: MakeMethod) -> None:
        self._crew = crew
        with crew.lock:
            crew.order(Order(verb="make"))
            self._own, self.model = make()
        self.trained = self._own.trained
        self.state = self._own.state

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        with self._crew.lock, self._crew.ranks.answering():
            self._crew.order(Order.compute(turn, message))
            return self._own.compute(turn, message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        with self._crew.lock, self._crew.ranks.answering():
            self._crew.order(Order.commit(turn, is_kept=reply is not None))
            self._own.commit(turn, reply)

    def end_round(self, round_index: int) -> None:
        with self._crew.lock, self._crew.ranks.answering():
            self._crew.order(Order(verb="end_round", round=round_index))
            self._own.end_round(round_index)
            check_equal(self._crew.ranks, self._own, round_index)

    def restore(self, state: State) -> None:
        with self._crew.lock, self._crew.ranks.answering():
            self._crew.order(Order.of_tensors("restore", state))
            self._own.restore(state)

    def measured(self, trained: Mapping[str, Tensor]) -> Measured:
        """See WholeModel."""
        with self._crew.lock, self._crew.ranks.answering():
            order = Order.of_tensors("measure", self.model.of_body(trained))
            self._crew.order(order)
            return self.model.measured(trained)


class Follower:
    """A rank above 0: carries out rank 0's orders until it is dismissed."""

    def __init__(self, ranks: Ranks, make: MakeMethod, base_bytes: int) -> None:
        self._ranks = ranks
        self._make = make
        self._base_bytes = base_bytes
        self._made: tuple[ServerMethod, CrewModel] | None = None
        self._computed: dict[int, ServerReply | None] = {}

    def follow(self) -> None:
        """Returns when rank 0 ends the run. Raises PeerLost without an order for the group's timeout."""
        with self._ranks.answering():
            while (order := decoded(self._ranks.shared())).verb != "stop":
                self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        match order.verb:
            case "make":
                self._computed.clear()
                self._made = None  # before another one takes memory
                self._made = self._make()
            case "idle":
                self._ranks.gathered(0)
            case "memory":
                _memory_rows(self._ranks, self._base_bytes)
            case _:
                assert self._made is not None, "an order before the method was made"
                self._call(order, *self._made)

    def _call(self, order: Order, method: ServerMethod, model: CrewModel) -> None:
        match order.verb:
            case "compute":
                self._computed[order.position] = _reply(method, order)
            case "commit":
                reply = self._computed.pop(order.position, None)
                method.commit(order.turn, reply if order.is_kept else None)
            case "end_round":
                method.end_round(order.round)
                check_equal(self._ranks, method, order.round)
            case "restore":
                method.restore(order.tensors)
            case "measure":
                model.measured(order.tensors)


def check_equal(ranks: Ranks, method: ServerMethod, round_index: int) -> None:
    """Raises ConfigError, on all ranks, where their trained values differ after a round."""
    found = hashlib.blake2b(digest_size=7)
    for name, value in sorted(method.trained().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    digests = ranks.gathered(int.from_bytes(found.digest(), "little"))
    different = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if different:
        raise ConfigError(
            f"rank {different[0]} has other trained values than rank 0 after round {round_index + 1}: the "
            "ranks of server.shard must compute the same bits, so use machines with the same kind of CPU or "
            "GPU, and the same versions"
        )


def _reply(method: ServerMethod, order: Order) -> ServerReply | None:
    """The reply; None where the method refuses the message, as it does on rank 0."""
    try:
        return method.compute(order.turn, order.message)
    except (WireError, ConfigError):
        return None


def _memory_rows(ranks: Ranks, base_bytes: int) -> list[Mapping[str, Any]]:
    peaks, bases = ranks.gathered(peak_resident_bytes()), ranks.gathered(base_bytes)
    return [
        {"side": "server", "client": None, "rank": rank, "peak_bytes": peak, "base_bytes": base}
        for rank, (peak, base) in enumerate(zip(peaks, bases, strict=True))
        if rank
    ]
