"""MQTT, a client's end: connections through a broker to a server."""

import threading
import uuid
from collections.abc import Callable
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage

from splitfl.core.errors import ConfigError, PeerLost
from splitfl.transport.mqtt.broker import CHUNK_BYTES, WINDOW_BYTES, Broker, hang_up

_PATIENCE_S: Final = 2.0


class MqttConnector:
    """Connections through a broker; implements `Connector`. They end if the broker or the server is lost."""

    window_bytes: int | None = WINDOW_BYTES
    silence = (
        "no answer; the broker's access list may block messages of this client to the server, "
        "or the answers from this client"
    )

    def __init__(self, broker: Broker, client: int, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._broker, self._client, self.chunk_bytes = broker, client, chunk_bytes
        self._connection: _Connection | None = None

    def carry(self, take: Callable[[], bytes | None], receive: Callable[[bytes], None]) -> None:
        self._connection = _Connection(self._broker, self._client, take, receive)
        self._connection.run()

    def cut(self) -> None:
        if self._connection is not None:
            self._connection.end(None)


class _Connection:
    """One connection."""

    def __init__(
        self, broker: Broker, number: int, take: Callable[[], bytes | None], receive: Callable[[bytes], None]
    ) -> None:
        self._broker, self._take, self._receive = broker, take, receive
        line = uuid.uuid4().hex[:16]
        self._up, self._down = (broker.line(direction, number, line) for direction in ("up", "down"))
        self._is_over, self._is_there = threading.Event(), threading.Event()
        self._error: Exception | None = None
        self._client = broker.new_client()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.will_set(self._up, b"", qos=1)

    def run(self) -> None:
        """Runs the connection until it ends; raises the error that ended it."""
        self._broker.connect(self._client)
        self._client.loop_start()
        try:
            if not self._is_there.wait(_PATIENCE_S) and not self._is_over.is_set():
                raise PeerLost(
                    f"the broker has no server for {self._broker.topic!r}, "
                    f"or its access list denies {self._broker.presence} to {self._broker.who}"
                )
            threading.Thread(target=self._speak, daemon=True).start()
            self._is_over.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.end(None)
            if self._client.is_connected():
                self._client.publish(self._up, b"", qos=1).wait_for_publish(_PATIENCE_S)
            hang_up(self._client)

    def end(self, error: Exception | None) -> None:
        """Ends the connection; the error of the first call is kept."""
        if not self._is_over.is_set():
            self._error = error
        self._is_over.set()
        self._is_there.set()

    def _speak(self) -> None:
        while not self._is_over.is_set() and (chunk := self._take()) is not None:
            self._client.publish(self._up, chunk, qos=1)
        self.end(None)

    def _on_connect(self, client: Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self.end(ConfigError(f"the broker at {self._broker.where} refused: {code}"))
        elif self._is_there.is_set():
            self.end(PeerLost("the connection to the broker broke"))  # messages in flight may be lost
        else:
            client.subscribe([(self._down, 1), (self._broker.presence, 1)])

    def _on_subscribe(self, client: Client, data: Any, mid: int, codes: Any, properties: Any) -> None:
        try:
            self._broker.refuse_denied([self._down, self._broker.presence], codes)
        except ConfigError as error:
            self.end(error)

    def _on_disconnect(self, client: Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self.end(PeerLost(f"the connection to the broker broke: {code}"))

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        if message.topic == self._broker.presence:
            if message.payload:
                self._is_there.set()
            elif self._is_there.is_set():
                self.end(PeerLost("the server has left the broker"))
            return
        try:
            self._receive(bytes(message.payload))
        except Exception as error:  # raised in `run`, not in the library's thread
            self.end(error)
