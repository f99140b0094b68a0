"""A connection to an MQTT broker, and the topics of a run there.

    splitfl/TOPIC/server             retained while the server of this run is connected, else empty
    splitfl/TOPIC/up/CLIENT/LINE     from a client, over its connection LINE
    splitfl/TOPIC/down/CLIENT/LINE   to a client, over its connection LINE

The broker's access list decides which user may act as which client. An empty message on a
connection's topic is the client's last will.
"""

import logging
import re
import socket
import ssl
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from splitfl.config import TransportConfig
from splitfl.core.errors import ConfigError, PeerLost, Timeout
from splitfl.transport.base.addresses import joined, parse_address
from splitfl.transport.mqtt.spec import MqttSettings
from splitfl.transport.security.credentials import Credentials, read_text

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 120 << 10  # with its header below 128 KiB, the lowest limit of public brokers
WINDOW_BYTES: Final = 16 * CHUNK_BYTES
KEEPALIVE_S: Final = 15
_PAUSE_S: Final = 0.2
_STANDARD_PORT: Final = 1883
_STANDARD_TLS_PORT: Final = 8883
_MAX_UNCONFIRMED: Final = 64


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A broker's address, the topic of the run, and the credentials for it."""

    host: str
    port: int
    topic: str
    credentials: Credentials
    user: str = ""
    password_file: str = ""

    @classmethod
    def parse(cls, address: str, credentials: Credentials, user: str, password_file: str) -> "Broker":
        """From `HOST:PORT/TOPIC`. Raises ConfigError for anything else."""
        where, slash, topic = address.partition("/")
        if not slash:
            raise ConfigError(f"a run at a broker is HOST:PORT/TOPIC, got {address!r}")
        host, port = parse_address(where)
        return cls(
            host=host, port=port, topic=topic, credentials=credentials, user=user, password_file=password_file
        )

    @classmethod
    def of(cls, config: TransportConfig) -> "Broker":
        """From a server's settings, with a new topic if they have none."""
        own = config.of(MqttSettings)
        return cls(
            host=config.host,
            port=config.port or (_STANDARD_TLS_PORT if own.tls.tls_ca else _STANDARD_PORT),
            topic=own.topic or f"run-{uuid.uuid4().hex[:16]}",
            credentials=own.tls.credentials(),
            user=own.user,
            password_file=own.password_file,
        )

    def check(self) -> None:
        """Raises ConfigError for files that cannot be used."""
        self.credentials.check()
        self._password()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.topic):
            raise ConfigError(f"transport.topic must be letters, digits and ._- only, got {self.topic!r}")
        if self.password_file and not self.user:
            raise ConfigError(
                f"the password in {self.password_file} is for a user of the broker: name one "
                "(--user, or transport.user)"
            )

    @property
    def address(self) -> str:
        """`HOST:PORT/TOPIC`, as for `parse`."""
        return f"{self.where}/{self.topic}"

    @property
    def where(self) -> str:
        """The broker's address."""
        return joined(self.host, self.port)

    @property
    def presence(self) -> str:
        """The topic of the server's presence."""
        return f"splitfl/{self.topic}/server"

    def line(self, direction: str, client: int | str, line: str) -> str:
        """The topic of one connection."""
        return f"splitfl/{self.topic}/{direction}/{client}/{line}"

    @property
    def who(self) -> str:
        """The user of this end, for messages."""
        return f"the user {self.user!r}" if self.user else "those who give no name"

    def new_client(self, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311) -> Client:
        """An unconnected client. Raises ConfigError for invalid files."""
        clean = None if version == MQTTProtocolVersion.MQTTv5 else True  # MQTT 5 has another parameter for it
        client = Client(CallbackAPIVersion.VERSION2, clean_session=clean, protocol=version)
        client.max_inflight_messages_set(_MAX_UNCONFIRMED)
        client.reconnect_delay_set(1, 5)
        client.on_socket_open = _send_at_once
        client.on_publish = _confirm_at_once
        own = self.credentials
        if own.ca or own.cert:
            own.check()
            try:
                client.tls_set(own.ca or None, own.cert or None, own.key or None)
            except (OSError, ssl.SSLError, ValueError) as error:
                files = ", ".join(path for path in (own.ca, own.cert, own.key) if path)
                raise ConfigError(f"TLS cannot be had with {files}: {error}") from None
        if self.user:
            client.username_pw_set(self.user, self._password())
        return client

    def _password(self) -> str | None:
        return read_text(self.password_file) if self.password_file else None

    def refuse_denied(self, topics: Sequence[str], codes: Sequence[ReasonCode]) -> None:
        """Raises ConfigError for the first topic whose subscription the broker denied."""
        for topic, code in zip(topics, codes, strict=False):
            if code.is_failure:
                raise ConfigError(
                    f"the broker at {self.where} does not let {self.who} subscribe to {topic}: {code}"
                )

    def connect(self, client: Client) -> None:
        """Opens the connection. Raises PeerLost if there is no broker, ConfigError if TLS fails."""
        try:
            client.connect(self.host, self.port, KEEPALIVE_S)
        except ssl.SSLError as error:
            raise ConfigError(f"TLS with the broker at {self.where} failed: {error}") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise PeerLost(f"no broker at {self.where}: {reason}") from None

    def connect_within(self, client: Client, timeout_s: float, clock_s: Callable[[], float]) -> None:
        """Opens the connection, with retries. Raises Timeout without a broker."""
        deadline_s, pause_s = clock_s() + timeout_s, _PAUSE_S
        while True:
            try:
                self.connect(client)
                return
            except PeerLost as error:
                if clock_s() + pause_s > deadline_s:
                    raise Timeout(f"{error}, within {timeout_s:g} s") from None
                log.warning("%s; next attempt in %.1f s", error, pause_s)
                time.sleep(pause_s)
                pause_s *= 2


def hang_up(client: Client) -> None:
    """Ends a connection, its thread and its sockets; the client is as new afterwards.

    The library closes the sockets that wake its thread only when the client is deleted. One that is
    part of a reference cycle goes with its sockets in any order, and Python may find them open.
    """
    client.disconnect()
    client.loop_stop()
    client.reinitialise()


def _send_at_once(client: Client, data: Any, opened: Any) -> None:
    """Disables Nagle's algorithm, which delays small messages until the previous ACK, about 40 ms."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _confirm_at_once(client: Client, *published: Any) -> None:
    """Sends TCP ACKs at once, since most brokers use Nagle's algorithm and wait for them."""
    opened: Any = client.socket()
    if opened is not None and sys.platform == "linux":
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
