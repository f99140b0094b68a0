"""Ends a run whose training has diverged, before it spoils what was learnt until then."""

import math
from collections.abc import Mapping
from typing import Final

from torch import Tensor

from splitfl.core.errors import Diverged
from splitfl.core.messages import Control, Message
from splitfl.methods.parts.method import ServerMethod, ServerReply, Turn

ADVICE: Final = "take smaller train.head_lr and train.body_lr"
NOT_FINITE: Final = "not finite"
"""What a client says, as it begins a round, of numbers in its own state that are not finite."""


class DivergenceGuard:
    """A server whose training losses must be numbers, and at most `max_loss`, and its clients' states finite.

    The step that has another loss is not made part of the state, so that the last
    checkpoint is the last good one.
    """

    def __init__(self, server: ServerMethod, max_loss: float) -> None:
        self._server = server
        self._max_loss = max_loss
        self.end_round = server.end_round
        self.state = server.state
        self.restore = server.restore

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        """Raises Diverged for a client whose state is not finite."""
        if isinstance(message, Control) and message.values.get(NOT_FINITE):
            raise Diverged(
                f"client {ticket.client} begins round {ticket.round} with numbers in its adapters or its "
                f"optimiser that are not finite: {ADVICE}"
            )
        return self._server.compute(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        """Raises Diverged, with the client, round and step."""
        if outcome is not None:
            first = 0 if len(outcome.losses) > 1 else max(0, ticket.lap - 1)
            for step, loss in enumerate(outcome.losses, first if outcome.step is None else outcome.step):
                if not (math.isfinite(loss) and loss <= self._max_loss):
                    raise Diverged(
                        f"the training loss of client {ticket.client} in round {ticket.round}, step {step} "
                        f"is {loss}, beyond train.max_loss of {self._max_loss:g}: {ADVICE}"
                    )
        self._server.commit(ticket, outcome)

    def trained(self) -> Mapping[str, Tensor]:
        return self._server.trained()
