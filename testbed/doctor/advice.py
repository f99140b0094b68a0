"""Which transports will work, and why the others will not."""

from collections.abc import Sequence
from typing import Final

from testbed.doctor.findings import PASSES, Advice, Way

PREFERENCE: Final = ("rpc", "grpc", "mqtt", "overlay")


def advise(
    ways: Sequence[Way],
    *,
    same_torch: bool,
    has_overlay: bool,
    server_to_broker: str,
    unreached: Sequence[str] = (),
) -> list[Advice]:
    """One line for each transport; the first that works in this order is the one to use."""
    if unreached:
        why = f"no agent could be started on {', '.join(unreached)}: see access above"
        return [Advice(transport=name, works=False, why=why) for name in PREFERENCE]
    if not same_torch:
        why = "the nodes have different versions of torch or splitfl, or none"
        return [Advice(transport=name, works=False, why=why) for name in PREFERENCE]
    return [_rpc(ways), _grpc(ways), _mqtt(ways, server_to_broker), _overlay(ways, has_overlay)]


def _rpc(ways: Sequence[Way]) -> Advice:
    closed = [reason for way in ways for reason in _against_rpc(way)]
    if closed:
        why = "it listens on random ports and dials back into every client, so it would hang: "
        return Advice(transport="rpc", works=False, why=why + "; ".join(closed))
    if any("unknown" in (way.up, way.down) for way in ways):
        why = "it takes random ports both ways, which cannot be tried from one end: give an --inventory"
        return Advice(transport="rpc", works=False, why=why)
    return Advice(transport="rpc", works=True, why="random ports are open both ways; closed networks only")


def _against_rpc(way: Way) -> list[str]:
    ways = (
        ("its way to the server's port", way.port),
        ("its way to random ports of the server", way.up),
        ("the server's way to random ports of it", way.down),
        ("the way between it and the first client", way.side),
    )
    return [
        f"{way.client}: {what} is {outcome}" for what, outcome in ways if outcome not in (*PASSES, "unknown")
    ]


def _grpc(ways: Sequence[Way]) -> Advice:
    closed = [f"{way.client} finds it {way.port}" for way in ways if way.port not in PASSES]
    if closed:
        return Advice(transport="grpc", works=False, why=f"the server's port is closed: {'; '.join(closed)}")
    return Advice(transport="grpc", works=True, why="every client reaches the server's one port")


def _overlay(ways: Sequence[Way], has_overlay: bool) -> Advice:
    grpc = _grpc(ways)
    if not grpc.works:
        return Advice(transport="overlay", works=False, why=grpc.why)
    if not has_overlay:
        return Advice(transport="overlay", works=False, why="not every node has root and TUN")
    why = "unchanged PyTorch RPC over the server's one port: `splitfl testbed overlay`"
    return Advice(transport="overlay", works=True, why=why)


def _mqtt(ways: Sequence[Way], server: str) -> Advice:
    sides = [*((way.client, way.broker) for way in ways), ("the server", server)]
    if all(outcome == "unknown" for _, outcome in sides):
        return Advice(transport="mqtt", works=False, why="the inventory names no [broker]")
    closed = [f"{who} finds it {outcome}" for who, outcome in sides if outcome != "open"]
    if closed:
        return Advice(transport="mqtt", works=False, why=f"the broker is away: {'; '.join(closed)}")
    return Advice(transport="mqtt", works=True, why="every client and the server reach the broker")
