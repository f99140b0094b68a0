"""gRPC, the server's end: one port, to which every client opens one stream.

Chunks are raw gRPC messages, without protobuf. HTTP/2 provides flow control.
"""

import logging
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import grpc

from splitfl.core.errors import ConfigError, PeerLost, WireError
from splitfl.transport.base.addresses import joined
from splitfl.transport.base.interfaces import listening_address, refuse_taken
from splitfl.transport.security.credentials import Credentials, read_authorities, read_pair
from splitfl.transport.session.chunk import MAX_CHUNK_BYTES, unpack
from splitfl.transport.session.session import Session
from splitfl.transport.session.session_registry import SessionRegistry, refusal

log = logging.getLogger(__name__)

METHOD: Final = "/splitfl.Run/Exchange"
CHUNK_BYTES: Final = 1 << 19
_HELLO_S: Final = 10.0
_GRACE_S: Final = 3.0
_SPARE_STREAMS: Final = 8  # for refused clients, and for reconnections before the old stream has ended

_Admitted = tuple[Session, int]


class GrpcListener:
    """Accepts clients' streams until closed; implements `Listener`."""

    def __init__(self, host: str, port: int, registry: SessionRegistry, credentials: Credentials) -> None:
        """Raises ConfigError for an address that cannot be published, a port in use, and invalid files."""
        self._host = listening_address(host, "gRPC", takes_ipv6=True)
        self._registry = registry
        refuse_taken(self._host, port)
        streams = 2 * registry.clients + _SPARE_STREAMS
        options = [
            ("grpc.so_reuseport", 0),  # two servers must not share a port
            ("grpc.max_receive_message_length", MAX_CHUNK_BYTES),
            ("grpc.max_metadata_size", 1 << 14),
        ]
        self._threads = ThreadPoolExecutor(streams, thread_name_prefix="stream")
        self._server = grpc.server(
            self._threads,
            handlers=(_GrpcHandler(self._exchange),),
            options=options,
            maximum_concurrent_rpcs=streams,
        )
        try:
            self._port = self._bind(port, credentials)
        except RuntimeError as error:
            raise ConfigError(f"cannot listen on {joined(self._host, port)}: {error}") from None
        self._asks_certificate = bool(credentials.cert and credentials.ca)
        self._server.start()

    @property
    def address(self) -> str:
        return joined(self._host, self._port)

    def close(self) -> None:
        self._server.stop(_GRACE_S).wait(2 * _GRACE_S)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _bind(self, port: int, credentials: Credentials) -> int:
        where = joined(self._host, port)
        if not credentials.cert:
            return int(self._server.add_insecure_port(where))
        pair = read_pair(credentials.cert, credentials.key)
        ca = read_authorities(credentials.ca) if credentials.ca else None
        return int(
            self._server.add_secure_port(
                where, grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)
            )
        )

    def _exchange(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Serves one stream; incoming chunks are read in a separate thread."""
        admitted: queue.SimpleQueue[_Admitted | bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(requests, context, admitted), daemon=True).start()
        try:
            first = admitted.get(timeout=_HELLO_S)
        except queue.Empty:
            log.warning("%s opened a stream and sent nothing for %g s", context.peer(), _HELLO_S)
            return
        if isinstance(first, bytes):
            yield first
        if not isinstance(first, tuple):
            return
        session, line = first
        try:
            while (chunk := session.outbox.take(line)) is not None:
                yield chunk
        finally:
            self._registry.lost(session, line, "its connection ended")

    def _read(
        self,
        requests: Iterator[bytes],
        context: grpc.ServicerContext,
        admitted: "queue.SimpleQueue[_Admitted | bytes | None]",
    ) -> None:
        whence, session, line = context.peer(), None, 0
        try:
            for raw in requests:
                if session is None:
                    session, line = self._registry.admit(unpack(raw), self._certified(context), whence)
                    admitted.put((session, line))
                else:
                    session.receive(line, raw)
        except grpc.RpcError:
            pass  # the stream is lost, as reported below
        except (ConfigError, WireError, PeerLost) as error:
            log.warning("refused %s: %s", whence, error)
            if session is None:
                admitted.put(refusal(error))
            else:
                session.outbox.close(refusal(error))  # the stream ends once that is sent
            return
        except Exception as error:  # grpc raises a bare Exception from a stream that was closed
            log.debug("the stream of %s ended: %s", whence, error)
        if session is None:
            admitted.put(None)
        else:
            self._registry.lost(session, line, "its connection ended")

    def _certified(self, context: grpc.ServicerContext) -> str | None:
        if not self._asks_certificate:
            return None
        names = context.auth_context().get("x509_common_name", [])
        with suppress(UnicodeDecodeError, IndexError):
            return str(names[0].decode())
        return ""


class _GrpcHandler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc carries no types
    """The single RPC method, without serialisation."""

    def __init__(self, behaviour: object) -> None:
        self._handler = grpc.stream_stream_rpc_method_handler(behaviour)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if details.method == METHOD else None
