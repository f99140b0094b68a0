"""MQTT, the server's end: subscribes to the topics of all connections, with one sending thread each."""

import logging
import threading
import time
import uuid
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage

from splitfl.config import TransportConfig
from splitfl.core.errors import ConfigError, PeerLost, SplitflError, Timeout, WireError
from splitfl.transport.mqtt.broker import WINDOW_BYTES, Broker, hang_up
from splitfl.transport.mqtt.broker_survey import largest_chunk
from splitfl.transport.mqtt.spec import MqttSettings
from splitfl.transport.session.chunk import HEADER_BYTES, Kind, unpack
from splitfl.transport.session.server import SessionServer
from splitfl.transport.session.session import Session
from splitfl.transport.session.session_registry import SessionRegistry, refusal

log = logging.getLogger(__name__)

_RETAINED_S: Final = 0.5
_LAST_WORDS_S: Final = 3.0


def serve_mqtt(config: TransportConfig, clients: int) -> SessionServer:
    """A server at the broker of these settings. Raises ConfigError and Timeout."""
    broker = Broker.of(config)
    chunk_bytes = largest_chunk(broker, broker.line("down", "survey", "survey"), config.timeout_s)
    max_bytes = chunk_bytes + HEADER_BYTES
    registry = SessionRegistry(
        clients, config.timeout_s, config.join_timeout_s, chunk_bytes, WINDOW_BYTES, max_bytes=max_bytes
    )
    return SessionServer(
        registry,
        MqttListener(broker, registry, config.timeout_s, is_new_topic=not config.of(MqttSettings).topic),
    )


class MqttListener:
    """Accepts clients through a broker, with reconnection; implements `Listener`."""

    def __init__(
        self, broker: Broker, registry: SessionRegistry, timeout_s: float, *, is_new_topic: bool
    ) -> None:
        """Raises Timeout without a broker, ConfigError if it refuses or the topic has a server already."""
        self._broker, self._registry = broker, registry
        self._name = uuid.uuid4().hex
        self._lines: dict[str, tuple[Session, int]] = {}
        self._speakers: list[threading.Thread] = []
        self._is_closing = False
        self._subscribed = threading.Event()
        self._refusal = ""
        self._holder = ""
        self._is_here = threading.Event()
        self._client = broker.new_client()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.will_set(broker.presence, b"", qos=1, retain=True)
        broker.connect_within(self._client, timeout_s, time.monotonic)
        self._client.loop_start()
        try:
            self._take_place(timeout_s, 0.0 if is_new_topic else _RETAINED_S)
        except SplitflError:
            hang_up(self._client)
            raise

    @property
    def address(self) -> str:
        return self._broker.address

    @property
    def _topics(self) -> list[str]:
        return [self._broker.presence, self._broker.line("up", "+", "+")]

    def close(self) -> None:
        deadline_s = time.monotonic() + _LAST_WORDS_S
        for speaker in list(self._speakers):
            speaker.join(max(0.0, deadline_s - time.monotonic()))
        self._is_closing = True
        gone = self._client.publish(self._broker.presence, b"", qos=1, retain=True)
        if self._client.is_connected():
            gone.wait_for_publish(_LAST_WORDS_S)
        for session, line in list(self._lines.values()):
            self._registry.lost(session, line, "the run is over")
        hang_up(self._client)

    def _take_place(self, timeout_s: float, look_s: float) -> None:
        where = self._broker.where
        is_in_time = self._subscribed.wait(timeout_s)
        if self._refusal:
            raise ConfigError(self._refusal)
        if not is_in_time:
            raise Timeout(f"the broker at {where} did not answer within {timeout_s:g} s")
        time.sleep(look_s)
        if self._holder:
            raise ConfigError(
                f"another server has the topic {self._broker.topic!r} at {where}, "
                "or had it when it died together with the broker; choose another transport.topic"
            )
        self._client.publish(self._broker.presence, self._name.encode(), qos=1, retain=True)
        if not self._is_here.wait(timeout_s):
            raise ConfigError(
                f"the broker at {where} took {self._broker.presence} and did not hand it on: its access list "
                f"must let {self._broker.who} write and read it"
            )

    def _on_connect(self, client: Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._refusal = f"the broker at {self._broker.where} refused: {code}"
            self._subscribed.set()
            return
        client.subscribe([(topic, 1) for topic in self._topics])
        if self._subscribed.is_set():
            log.warning("the server is connected to the broker at %s again", self._broker.address)
            client.publish(self._broker.presence, self._name.encode(), qos=1, retain=True)

    def _on_subscribe(self, client: Client, data: Any, mid: int, codes: Any, properties: Any) -> None:
        try:
            self._broker.refuse_denied(self._topics, codes)
        except ConfigError as error:
            self._refusal = str(error)
        self._subscribed.set()

    def _on_disconnect(self, client: Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if not self._is_closing:
            log.warning("lost the broker at %s (%s); reconnecting", self._broker.address, code)

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        if message.topic == self._broker.presence:
            name = message.payload.decode(errors="replace")
            if name == self._name:
                self._is_here.set()
            self._holder = name if name != self._name else self._holder
            return
        try:
            self._receive(message)
        except (ConfigError, WireError, PeerLost) as error:
            log.warning("refused %s: %s", message.topic, error)
            _, _, _, number, line = message.topic.split("/")
            client.publish(self._broker.line("down", number, line), refusal(error), qos=1)

    def _receive(self, message: MQTTMessage) -> None:
        _, _, _, number, name = message.topic.split("/")
        known = self._lines.get(name)
        if not message.payload:
            if known is not None:
                self._registry.lost(*known, "its connection ended")
        elif known is not None:
            known[0].receive(known[1], bytes(message.payload))
        else:
            chunk = unpack(bytes(message.payload))
            if chunk.kind is not Kind.HELLO:
                return  # from before this server started, or from a connection that has ended
            session, line = self._registry.admit(
                chunk, f"client-{number}", f"{self._broker.topic}/{number}/{name}"
            )
            self._lines[name] = session, line
            speaker = threading.Thread(target=self._speak, args=(session, line, name), daemon=True)
            self._speakers = [one for one in self._speakers if one.is_alive()] + [speaker]
            speaker.start()

    def _speak(self, session: Session, line: int, name: str) -> None:
        topic = self._broker.line("down", session.client, name)
        while (chunk := session.outbox.take(line)) is not None:
            self._client.publish(topic, chunk, qos=1)
        self._lines.pop(name, None)
