"""Which transports will work between the examined machines, with reasons."""

from typing import Final

from splitfl.transport.base.reachability import Diagnosis, Reach
from splitfl.transport.registry import TRANSPORTS
from testbed.doctor.findings import Advice

OVERLAY: Final = "overlay"


def names() -> list[str]:
    """The transports with a diagnosis, in order of preference, and last RPC over the overlay."""
    return [*(name for name, spec in TRANSPORTS.items() if spec.diagnose is not None), OVERLAY]


def advise(
    reach: Reach, *, same_torch: bool, has_overlay: bool, unreached: tuple[str, ...] = ()
) -> list[Advice]:
    """The advice on each transport in order of preference; the first that works should be used."""
    if unreached:
        why = f"no agent could be started on {', '.join(unreached)}: see access above"
        return [Advice(transport=name, works=False, why=why) for name in names()]
    if not same_torch:
        why = "the nodes have different versions of torch or splitfl, or none"
        return [Advice(transport=name, works=False, why=why) for name in names()]
    found = {name: spec.diagnose(reach) for name, spec in TRANSPORTS.items() if spec.diagnose is not None}
    found[OVERLAY] = _overlay(found["grpc"], has_overlay)
    return [Advice(transport=name, works=one.works, why=one.why) for name, one in found.items()]


def _overlay(grpc: Diagnosis, has_overlay: bool) -> Diagnosis:
    """The overlay uses the same port as gRPC, and needs root and TUN."""
    if not grpc.works:
        return grpc
    if not has_overlay:
        return Diagnosis(works=False, why="not every node has root and TUN")
    why = "unchanged PyTorch RPC over the server's one port: `splitfl testbed overlay`"
    return Diagnosis(works=True, why=why)
