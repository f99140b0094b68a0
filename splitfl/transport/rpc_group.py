"""A PyTorch RPC group: how a process enters it and leaves it."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from torch.distributed import DistError, TCPStore, rpc  # type: ignore[attr-defined]  # it does not list them
from torch.distributed.rendezvous import register_rendezvous_handler

from splitfl.errors import ConfigError, PeerLost
from splitfl.transport.interfaces import interface_of

log = logging.getLogger(__name__)

SERVER: Final = "server"
_SCHEME: Final = "splitfl"


def enter_group(store: TCPStore, name: str, rank: int, world: int, own: str, timeout_s: float) -> None:
    """Meets the other members at this store, and waits for all of them; PeerLost where one does not come."""
    # Both variables, or the address of the host's own name is published. TCP only: the
    # shared-memory transports spin while they wait and double the CPU time of a step.
    os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = interface_of(own)
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"{_SCHEME}://{store.host}:{store.port}",
        rpc_timeout=timeout_s,
        _transports=["uv"],
        _channels=["basic"],
    )

    def meet(url: str, **_: Any) -> Iterator[tuple[TCPStore, int, int]]:
        yield store, rank, world

    # A member that has died in between would be waited for by torch's own meeting point for half
    # an hour, and by the group itself, whose time is no option, for 24 days.
    register_rendezvous_handler(_SCHEME, meet)  # type: ignore[no-untyped-call]
    rpc.constants.DEFAULT_PROCESS_GROUP_TIMEOUT = timedelta(seconds=timeout_s)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.distributed")
        try:
            rpc.init_rpc(  # type: ignore[no-untyped-call]
                name, rank=rank, world_size=world, rpc_backend_options=options
            )
        except (RuntimeError, DistError) as error:
            log.debug("%s could not enter the RPC group: %s", name, error)
            raise PeerLost(
                f"{name} could not enter the RPC group at {store.host}:{store.port} within {timeout_s:g} s: "
                "another member went away or cannot be reached"
            ) from None


def leave_group() -> None:
    """Leaves without waiting for anybody."""
    with suppress(RuntimeError):  # the peers may be gone, or the group was never entered
        rpc.shutdown(graceful=False)


def refuse_second_run() -> None:
    """Raises ConfigError in a process that has been in a group already."""
    if rpc._init_counter:  # torch counts its groups in each process, and would wait for peers that do not
        raise ConfigError("PyTorch RPC carries one run a process: start the next one in a new process")
