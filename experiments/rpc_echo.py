"""`python -m experiments.rpc_echo ROLE ADDRESS BYTES SENDS`: timed PyTorch RPC; see `rpc_probe`.

splitfl is not involved. The client sends tensors of BYTES bytes one after another, then single-byte echoes;
it prints the seconds of each as JSON.
"""

import json
import os
import sys
import time
from contextlib import suppress

import torch
from torch.distributed import rpc

PORT = "29500"
ECHOES = 50
_SERVER, _CLIENT = "server", "client"


def main() -> None:
    """Runs one of the two sides, in its own namespace."""
    role, address, size_bytes, sends = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=PORT)
    # TCP only: shared memory would bypass the emulated link.
    options = rpc.TensorPipeRpcBackendOptions(_transports=["uv"], _channels=["basic"])
    rank = 0 if role == _SERVER else 1
    rpc.init_rpc(role, rank=rank, world_size=2, rpc_backend_options=options)  # type: ignore[no-untyped-call]
    if role == _CLIENT:
        payload, byte = torch.zeros(size_bytes, dtype=torch.uint8), torch.zeros(1, dtype=torch.uint8)
        _seconds(_size, payload, 2)
        times = {"send_s": _seconds(_size, payload, sends), "echo_s": _seconds(_same, byte, ECHOES)}
        print(json.dumps(times), flush=True)
    with suppress(RuntimeError):  # the measurement is complete; the peer may have closed its store first
        rpc.shutdown()


def _seconds(function: object, tensor: torch.Tensor, times: int) -> list[float]:
    took_s = []
    for _ in range(times):
        begin_s = time.perf_counter()
        rpc.rpc_sync(_SERVER, function, args=(tensor,), timeout=300)
        took_s.append(time.perf_counter() - begin_s)
    return took_s


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel()


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


if __name__ == "__main__":
    main()
