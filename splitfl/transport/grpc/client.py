"""gRPC, a client's end: one outbound connection at a time, through the HTTP proxy of the
environment (`grpc_proxy`, `https_proxy`, `http_proxy`, except `no_proxy`), if any, unless the
server is on this machine."""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Final

import grpc

from splitfl.core.errors import ConfigError, PeerLost
from splitfl.transport.base.addresses import parse_address
from splitfl.transport.base.proxies import proxy_towards
from splitfl.transport.grpc.server import CHUNK_BYTES, METHOD
from splitfl.transport.security.credentials import Credentials, read_authorities, read_pair
from splitfl.transport.session.chunk import MAX_CHUNK_BYTES

log = logging.getLogger(__name__)

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", MAX_CHUNK_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel must not inherit the previous one's back-off
    ("grpc.enable_retries", 0),
]


class GrpcConnector:
    """Connections to a gRPC server; implements `Connector`."""

    chunk_bytes = CHUNK_BYTES
    window_bytes: int | None = None
    silence = "no answer"

    def __init__(self, where: str, credentials: Credentials) -> None:
        """Raises ConfigError for files that cannot be used."""
        self._where = where
        self._proxy = proxy_towards(parse_address(where)[0])
        self._options = [*_OPTIONS, ("grpc.enable_http_proxy", int(self._proxy is not None))]
        self._secure = _channel_credentials(credentials)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None

    def carry(self, take: Callable[[], bytes | None], receive: Callable[[bytes], None]) -> None:
        channel = self._new_channel()
        try:
            call = channel.stream_stream(METHOD)(_until_none(take))
            for raw in call:
                receive(raw)
        except grpc.RpcError as error:
            raise self._lost(error) from None
        finally:
            self.cut()

    def cut(self) -> None:
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = None

    def _new_channel(self) -> grpc.Channel:
        with self._lock:
            if self._secure is None:
                self._channel = grpc.insecure_channel(self._where, options=self._options)
            else:
                self._channel = grpc.secure_channel(self._where, self._secure, options=self._options)
            return self._channel

    def _lost(self, error: grpc.RpcError) -> Exception:
        details = str(error.details() if isinstance(error, grpc.Call) else error)
        reason = re.sub(r"^failed to connect to all addresses; last error: (UNKNOWN: )?", "", details)
        log.debug("the stream to %s ended: %s", self._where, reason)
        if self._proxy is not None:
            reason += f" (tried {self._proxy})"
        if "SSL_ERROR_SSL" in reason or "Hostname Verification" in reason:
            return ConfigError(f"TLS with the server at {self._where} failed: {reason}")
        if "Socket closed" in reason:
            reason += "; if the server requires TLS, or another certificate, only its own log has the reason"
        return PeerLost(reason)


def _until_none(take: Callable[[], bytes | None]) -> Iterator[bytes]:
    while (chunk := take()) is not None:
        yield chunk


def _channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials | None:
    if not credentials.ca and not credentials.cert:
        return None
    ca = read_authorities(credentials.ca) if credentials.ca else None
    if not credentials.cert:
        return grpc.ssl_channel_credentials(ca)
    return grpc.ssl_channel_credentials(ca, *read_pair(credentials.cert, credentials.key))
