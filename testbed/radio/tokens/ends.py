"""What server and clients tell each other over a transport about frames that cross the radio."""

import math
import struct
from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Final

from channel.core.errors import ChannelError
from channel.waveform.tokens import TokenMessage
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError, WireError
from splitfl.transport.radio.spec import RadioSettings
from splitfl.wire.row_split import NO_MASK, JoinedFrame, join
from testbed.radio.modem import ModemSettings, PacketModem
from testbed.radio.tokens.node import TokenNode
from testbed.radio.tokens.sending import Sending
from testbed.radio.zmq_radio import ZmqRadio, settings_of

SENT: Final = b"\x00radio\x01"
"""A request or a reply whose frame was sent by radio. A frame that began like this would be too long."""

ASK: Final = b"\x00radio\x02"
"""A client's request to send, whose reply lets it: one message at a time is on the air."""

_SENDING = struct.Struct(">?dQII")


def node_of(config: RunConfig, node: int) -> Callable[[], TokenNode]:
    """Opens node 0 for the server, k + 1 for client k. Raises ConfigError for settings that do not work."""
    own, clients = config.transport.of(RadioSettings), config.federation.clients
    if not own.air_port:
        raise ConfigError("transport.air_port must be the port of an air (`splitfl channel air`), got 0")
    if config.erasure.output != "reliable" or config.erasure.gradient == "stale":
        raise ConfigError(
            "with the transport 'radio-nodes', erasure.output must be 'reliable' and erasure.gradient not "
            f"'stale', got {config.erasure.output!r} and {config.erasure.gradient!r}"
        )
    try:
        modem = ModemSettings(mcs=own.mcs, fft_size=own.fft_size, longest=own.packet_bytes)
        # Samples pass only once all nodes take part, when the last client has joined.
        ports = replace(
            settings_of(node, port=own.air_port, rate_hz=own.rate_hz),
            timeout_s=config.transport.join_timeout_s,
        )
    except ChannelError as error:
        raise ConfigError(f"[transport] radio-nodes: {error}") from None
    others = range(1, clients + 1) if node == 0 else [0]
    return lambda: TokenNode(PacketModem(ZmqRadio(ports), modem, node=node), own, node, others)


def told(sending: Sending) -> bytes:
    """What a client says of a frame that it has sent by radio."""
    return SENT + _SENDING.pack(*astuple(sending))


def heard(request: bytes) -> tuple[Sending, bytes]:
    """The inverse of `told`, and what follows: the frame, if it was lost. Raises WireError."""
    body = request.removeprefix(SENT)
    if len(body) < _SENDING.size:
        raise WireError(f"a request of {len(request)} bytes does not say what was sent by radio")
    is_lost, took_s, samples, segments, retransmissions = _SENDING.unpack_from(body)
    if not 0.0 <= took_s < math.inf:
        raise WireError(f"a message by radio must take a finite time of at least 0, got {took_s}")
    sending = Sending(
        is_lost=is_lost,
        took_s=took_s,
        samples=samples,
        segments=segments,
        retransmissions=retransmissions,
    )
    return sending, body[_SENDING.size :]


def received(message: TokenMessage) -> JoinedFrame:
    """The frame of a message, which was sent as a whole or in parts."""
    if message.arrived_U.size:
        return join(message.reliable, message.row_UN, message.arrived_U)
    return JoinedFrame(frame=message.reliable, arrived_N=NO_MASK, sent_N=NO_MASK)
