"""The clients of a run in one process: each is built when it first takes part, on modules that all share."""

from pathlib import Path

from splitfl.client.client import ClientNode
from splitfl.core.checkpoint import CheckpointStore
from splitfl.federation.selection import Selection
from splitfl.setup.experiment import Experiment
from splitfl.setup.shared_clients import SharedClients


class SimulatedClients:
    """Clients by index; see `splitfl.setup.shared_clients`.

    A client that has not taken part yet has the initial tensors, and is not built. The constructor reads the
    data of all clients, and builds those that take part in every round or that have a checkpoint. Raises as
    building a client does.
    """

    def __init__(self, experiment: Experiment, checkpoint_folder: Path) -> None:
        self._experiment = experiment
        self._shared = SharedClients(experiment)
        self._folder = checkpoint_folder
        self._first_round = 0
        self._nodes: dict[int, ClientNode] = {}
        is_of_all = Selection.of(experiment.config).is_of_all
        for client in range(len(self)):
            if is_of_all or self._folder_of(client).exists():
                self[client]
            else:
                self._shared.check(client)

    def __len__(self) -> int:
        return self._experiment.config.federation.clients

    def __getitem__(self, client: int) -> ClientNode:
        if client not in self._nodes:
            is_saved = self._experiment.config.fault_tolerance.checkpoint_every > 0
            checkpoints = CheckpointStore.of_client(self._folder_of(client)) if is_saved else None
            node = ClientNode.of(self._experiment, client, checkpoints, self._shared.method)
            if self._first_round:
                node.restore(self._first_round)
            self._nodes[client] = node
        return self._nodes[client]

    @property
    def built(self) -> int:
        """The number of clients that have been built."""
        return len(self._nodes)

    def restore(self, round_index: int) -> None:
        """Restores all clients to the start of this round; see `ClientNode.restore`."""
        self._first_round = round_index
        for node in self._nodes.values():
            node.restore(round_index)

    def _folder_of(self, client: int) -> Path:
        return self._folder / f"client-{client}"
