"""A PyTorch RPC group with star topology: entering and leaving it.

Each member is connected to the server only, and clients are never called. torch's static group
must be entered by all members at once; in its dynamic group each new member contacts all previous
ones, including killed ones. Here each client creates an agent over the store without informing other
clients, so it has in effect its own group with the server: joining, leaving and crashes do not affect
other clients.

Measured on loopback, torch 2.13, two busy cores: entering takes 2 to 6 ms, also as the replacement of
a killed client; the first call of another client after the kill takes under 1 ms; a round trip takes
0.5 ms for 4 bytes and 2 ms for 3 MiB. A static group takes 0.1 to 0.6 s to enter, and a replacement
joins only when all members leave and enter the next group, which took seconds.
"""

import logging
import os
import threading
from contextlib import suppress
from typing import Final

from torch._C._distributed_rpc import TensorPipeAgent, _is_current_rpc_agent_set
from torch.distributed import (  # type: ignore[attr-defined]  # it does not list them
    DistError,
    PrefixStore,
    TCPStore,
    autograd,
    rpc,
)

from splitfl.core.errors import ConfigError, PeerLost
from splitfl.transport.base.interfaces import interface_of

log = logging.getLogger(__name__)

SERVER: Final = "server"
_entering = threading.Lock()


def enter_group(store: TCPStore, name: str, rank: int, own: str, timeout_s: float) -> None:
    """Enters the group of this store, the server first, with an unused name and rank.

    The name must not have a hyphen, at which torch truncates it in dynamic groups.
    Raises PeerLost if the store is gone, ConfigError if this process is in a group already.
    """
    # Without both variables the address of the host's own name is published. TCP only: the
    # shared-memory transports busy-wait and double the CPU time of a step.
    os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = interface_of(own)
    options = rpc.TensorPipeRpcBackendOptions(rpc_timeout=timeout_s, _transports=["uv"], _channels=["basic"])
    with _entering:
        if _is_current_rpc_agent_set():
            raise ConfigError("PyTorch RPC carries one run a process: start the next one in a new process")
        try:
            autograd._init(rank)  # type: ignore[attr-defined]  # RPC queries it for the autograd context of a call
            agent = TensorPipeAgent(PrefixStore("splitfl/group", store), name, rank, None, options, {}, [])
            rpc.api._init_rpc_states(agent)  # type: ignore[no-untyped-call]
        except (RuntimeError, DistError) as error:
            log.debug("%s could not enter the RPC group: %s", name, error)
            where = f"{store.host}:{store.port}"
            raise PeerLost(
                f"{name} could not enter the RPC group at {where} within {timeout_s:g} s"
            ) from None


def leave_group() -> None:
    """Leaves without waiting for other members."""
    with suppress(RuntimeError):  # the peers may be gone, or the group was never entered
        rpc.shutdown(graceful=False)
