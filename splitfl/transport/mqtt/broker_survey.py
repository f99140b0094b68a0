"""Probes a broker's limits over MQTT 5 before a run, since that version reports reasons of rejection.

The run itself uses MQTT 3.1.1, which every broker supports, but in which a broker acknowledges and silently
drops messages that are too large or denied by its access list.
"""

import logging
import time
from collections import deque
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from splitfl.core.errors import ConfigError, PeerLost, Timeout
from splitfl.transport.mqtt.broker import CHUNK_BYTES, Broker, hang_up
from splitfl.transport.session.chunk import HEADER_BYTES, Kind, piece

log = logging.getLogger(__name__)

MIN_CHUNK_BYTES: Final = 1 << 10
_AROUND_BYTES: Final = 64  # of a PUBLISH, without topic and payload
_UNSUPPORTED_VERSION: Final = 132
_PACKET_TOO_LARGE: Final = 149
_POLL_S: Final = 0.1
_Response = tuple[str, ReasonCode, Properties | None]


def largest_chunk(broker: Broker, topic: str, timeout_s: float) -> int:
    """The largest chunk in bytes that the broker accepts on this topic, at most CHUNK_BYTES.

    CHUNK_BYTES for a broker without MQTT 5, which cannot be probed. Raises ConfigError for a
    broker that refuses this user or topic, or any chunk; Timeout if it does not answer.
    """
    size, reason = CHUNK_BYTES, ""
    while size >= MIN_CHUNK_BYTES:
        probe = _Probe(broker, timeout_s)
        try:
            limit = probe.open()
            if limit is None:
                return size
            size = min(size, limit - _AROUND_BYTES - len(topic) - HEADER_BYTES)
            if size < MIN_CHUNK_BYTES:
                reason = f"its maximum packet size is {limit} bytes"
                break
            if not (reason := probe.rejection(topic, size)):
                log.debug("the broker at %s accepts chunks of %d bytes", broker.where, size)
                return size
        finally:
            probe.close()
        size //= 2
    raise ConfigError(
        f"the broker at {broker.where} rejects messages of {MIN_CHUNK_BYTES} bytes, the minimum of a run: "
        f"{reason}"
    )


class _Probe:
    """One connection for one probe."""

    def __init__(self, broker: Broker, timeout_s: float) -> None:
        self._broker, self._timeout_s = broker, timeout_s
        self._responses: deque[_Response] = deque()
        self._client = broker.new_client(MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect

    def open(self) -> int | None:
        """The broker's maximum packet size in bytes; None if it does not support MQTT 5."""
        self._broker.connect_within(self._client, self._timeout_s, time.monotonic)
        event, code, properties = self._next()
        if event == "disconnected" or code.value == _UNSUPPORTED_VERSION:
            return None
        if code.is_failure:
            raise ConfigError(f"the broker at {self._broker.where} refused: {code}")
        limits: dict[str, Any] = properties.json() if properties else {}  # type: ignore[no-untyped-call]
        if not limits.get("RetainAvailable", 1) or limits.get("MaximumQoS", 1) < 1:
            raise ConfigError(
                f"the broker at {self._broker.where} does not support retained messages or "
                "QoS 1, which a run needs"
            )
        return int(limits.get("MaximumPacketSize", 2 * CHUNK_BYTES))

    def rejection(self, topic: str, size: int) -> str:
        """The reason why the broker rejects a chunk of this size, or "". Raises ConfigError if denied."""
        chunk = piece(Kind.REQUEST, 1, memoryview(bytes(size)), 0, size)
        self._client.publish(topic, chunk, qos=1)
        event, code, _ = self._next()
        if event == "disconnected":
            return f"it closed the connection ({code})"
        if code.value == _PACKET_TOO_LARGE:
            return str(code)
        if code.is_failure:
            raise ConfigError(
                f"the broker at {self._broker.where} does not allow {self._broker.who} to publish "
                f"to {topic}: {code}"
            )
        return ""

    def close(self) -> None:
        hang_up(self._client)

    def _next(self) -> _Response:
        """The broker's next response; the network loop is driven here, so there is no reconnection."""
        deadline_s = time.monotonic() + self._timeout_s
        while not self._responses:
            if time.monotonic() > deadline_s:
                words = f"the broker at {self._broker.where} did not answer within {self._timeout_s:g} s"
                raise Timeout(words)
            if self._client.loop(_POLL_S) and not self._responses:
                raise PeerLost(f"the connection to the broker at {self._broker.where} broke")
        return self._responses.popleft()

    def _on_connect(
        self, client: Client, data: Any, flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._responses.append(("connected", code, properties))

    def _on_publish(
        self, client: Client, data: Any, mid: int, code: ReasonCode, properties: Properties
    ) -> None:
        self._responses.append(("acknowledged", code, properties))

    def _on_disconnect(
        self, client: Client, data: Any, flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._responses.append(("disconnected", code, properties))
