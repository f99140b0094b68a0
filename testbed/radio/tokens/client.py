"""A client of a run whose frames cross the radio, in a process of its own."""

from typing import Any

import numpy as np

from channel.core.closing import Closing
from channel.core.link import Delivery, Transfer
from splitfl.config import RunConfig
from splitfl.core.messages import Absent, Activation, Join, Leave, Message, NotSelected
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.server.virtual_clock import Crossing, Load
from splitfl.transport.base.transport import ClientEnd
from splitfl.wire import Envelope, Frame, encode
from splitfl.wire.row_split import NO_ROWS, Mask, split
from testbed.radio.tokens.ends import ASK, SENT, node_of, received, told
from testbed.radio.tokens.node import TokenNode
from testbed.radio.tokens.records import RECORD, packed

_BY_TRANSPORT = (Join, Leave, Absent, NotSelected)
"""Messages on membership, without costs on any link."""


def open_client_radio(config: RunConfig, client: int) -> "TokenClient":
    """The radio of this client. Raises ConfigError for settings that it does not support."""
    return TokenClient(config, node_of(config, client + 1)())


class TokenClient(Closing):
    """Implements ClientRadio: this end applies the erasure policies to the replies that it receives."""

    def __init__(self, config: RunConfig, node: TokenNode) -> None:
        self._config, self._node = config, node

    def over(self, connection: ClientEnd) -> ClientEnd:
        """See ClientRadio."""
        return _OverRadio(connection, self._node, self._config)

    def close(self) -> None:
        """Ends its radio."""
        self._node.close()


class _OverRadio:
    """Implements ClientEnd."""

    def __init__(self, connection: ClientEnd, node: TokenNode, config: RunConfig) -> None:
        self._connection, self._node = connection, node
        self._timeout_s = config.transport.join_timeout_s
        self.experiment: dict[str, Any] = connection.experiment
        self.enter, self.leave = connection.enter, connection.leave
        self._policies = ErasurePolicies(
            config.train.seed,
            config.erasure,
            config.analog,
            pooled=lambda message: None,  # all tokens of its own activation are here
            mtu_bytes=config.link.mtu_bytes,
            snr_db={},
            is_received=True,
        )

    def request(self, data: bytes) -> bytes:
        """See ClientEnd."""
        frame = Frame(data)
        message = frame.message()
        assert isinstance(message, Message), "a client sends messages"
        if isinstance(message, Leave) and (reply := self._connection.request(self._record())) != RECORD:
            return reply
        if isinstance(message, _BY_TRANSPORT):
            return self._connection.request(data)
        load = self._policies.load(message, len(data), frame.codec, is_up=True)
        parts = (data, NO_ROWS) if load.recovery == "acknowledged" else split(data)
        if (reply := self._connection.request(ASK)) != ASK:
            return reply
        self._node.forget(0)
        sending = self._node.send(0, *parts, self._timeout_s)
        if isinstance(message, Activation) and message.hidden is not None:
            all_N = np.ones(len(parts[1]), dtype=np.bool_)
            self._policies.received(_crossing(frame.envelope, message, load, "up", all_N))
        reply = self._connection.request(told(sending) + (data if sending.is_lost else b""))
        return self._reply() if reply == SENT else reply

    def _record(self) -> bytes:
        return packed(self._node.record())

    def _reply(self) -> bytes:
        """The frame that the radio received, with lost tokens erased."""
        whole = received(self._node.receive(0, self._timeout_s))
        frame = Frame(whole.frame)
        reply = frame.message()
        if not whole.arrived_N.size or not isinstance(reply, Message):
            return whole.frame
        load = self._policies.load(reply, len(whole.frame), frame.codec, is_up=False)
        crossing = _crossing(frame.envelope, reply, load.only(whole.sent_N), "down", whole.arrived_N)
        used = self._policies.reply_received(crossing)
        return whole.frame if used is reply else encode(used, frame.envelope)


def _crossing(envelope: Envelope, message: Message, load: Load, direction: str, rows_N: Mask) -> Crossing:
    """A message of which these rows arrived, without times and costs, which the server accounts for."""
    transfer = Transfer(
        client=envelope.client,
        direction=direction,
        sequence=0,
        payload_bytes=load.payload_bytes,
        start_s=0.0,
        recovery=load.recovery,
        reliable_bytes=load.reliable_bytes,
        unit_bytes=load.unit_bytes,
    )
    delivery = Delivery(
        arrived=rows_N, finish_s=0.0, retransmissions=0, airtime_s=0.0, energy_j=0.0, rows=rows_N
    )
    return Crossing(
        envelope=envelope, message=message, start_s=0.0, load=load, transfer=transfer, delivery=delivery
    )
