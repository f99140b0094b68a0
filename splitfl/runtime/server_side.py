"""Where the server's side of a run is computed: on this process's device, or on the ranks of torchrun."""

from collections.abc import Iterator
from contextlib import contextmanager

from splitfl.parallel.launch import checked_launch, launch
from splitfl.server.one_device import OneDevice
from splitfl.server.protocols import ServerSide
from splitfl.setup.experiment import Experiment


@contextmanager
def server_side(experiment: Experiment) -> Iterator[ServerSide]:
    """The server's side by the settings; ConfigError unless torchrun started `server.ranks` processes."""
    launched = checked_launch(experiment.config.server)
    if launched is None:
        yield OneDevice(experiment)
        return
    from splitfl.parallel.server_side import on_ranks  # imports torch.distributed's FSDP

    with on_ranks(experiment, launched) as side:
        yield side


def follows() -> bool:
    """Whether torchrun started this process as a rank above 0; if so, it followed rank 0's run to its end.

    Raises PeerLost if rank 0 is lost.
    """
    launched = launch()
    if launched is None or not launched.rank:
        return False
    from splitfl.parallel.server_side import follow

    follow(launched)
    return True
