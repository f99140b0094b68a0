"""PyTorch RPC as a plug-in."""

from typing import Final

from splitfl.config import TransportConfig
from splitfl.transport.base.addresses import parse_address, refuse_ipv6, refuse_unknown
from splitfl.transport.base.interfaces import listening_address, refuse_taken
from splitfl.transport.base.reachability import PASSES, ClientReach, Diagnosis, Reach
from splitfl.transport.base.spec import Joining, TransportSpec
from splitfl.transport.base.transport import ClientEnd, ServerEnd


def _serve(config: TransportConfig, clients: int) -> ServerEnd:
    from splitfl.transport.rpc.server import RpcServer

    return RpcServer(config.host, config.port, clients, config.timeout_s, config.join_timeout_s)


def _join(joining: Joining) -> ClientEnd:
    from splitfl.transport.rpc.client import RpcClient

    return RpcClient(*_server_address(joining), joining.client, joining.timeout_s)


def _server_address(joining: Joining) -> tuple[str, int]:
    host, port = parse_address(joining.address)
    refuse_ipv6("PyTorch RPC", host)
    return host, port


def _check_server(config: TransportConfig) -> None:
    refuse_taken(listening_address(config.host, "PyTorch RPC", takes_ipv6=False), config.port)


def _check_join(joining: Joining) -> None:
    refuse_unknown(_server_address(joining)[0])


def _diagnose(reach: Reach) -> Diagnosis:
    closed = [reason for client in reach.clients for reason in _closed(client)]
    if closed:
        why = "it listens on random ports and dials back into every client, so it would hang: "
        return Diagnosis(works=False, why=why + "; ".join(closed))
    if any("unknown" in (client.up, client.down) for client in reach.clients):
        why = "it takes random ports both ways, which cannot be tried from one end: give an --inventory"
        return Diagnosis(works=False, why=why)
    return Diagnosis(works=True, why="random ports are open both ways; closed networks only")


def _closed(client: ClientReach) -> list[str]:
    paths = (
        ("its way to the server's port", client.port),
        ("its way to random ports of the server", client.up),
        ("the server's way to random ports of it", client.down),
        ("the way between it and the first client", client.side),
    )
    return [
        f"{client.client}: {path} is {outcome}"
        for path, outcome in paths
        if outcome not in (*PASSES, "unknown")
    ]


SPEC: Final = TransportSpec(
    about="PyTorch RPC: the fastest, on networks that are open in both directions and closed to others",
    describe="in separate processes over PyTorch RPC",
    serve=_serve,
    join=_join,
    check_server=_check_server,
    check_join=_check_join,
    warning=lambda config: "PyTorch RPC trusts anyone who reaches its port: use closed networks only",
    diagnose=_diagnose,
)
