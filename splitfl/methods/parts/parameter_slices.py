"""The adapted modules divided among the clients, rotated by one every round.

A gradient estimate from P perturbations is more accurate for fewer parameters (Spry, Panchal et al.,
NeurIPS'24).
"""

from collections.abc import Sequence

from splitfl.adapters.registry import module_of
from splitfl.federation.aggregators import Aggregator


class Slice:
    """The tensors that one client trains in a round, among those that the aggregator trains."""

    def __init__(self, rule: Aggregator, names: Sequence[str], client: int, clients: int) -> None:
        self._rule = rule
        self._modules = list(dict.fromkeys(module_of(name) for name in names if module_of(name)))
        self._client = client
        self._parts = max(1, min(clients, len(self._modules)))

    def trains(self, name: str, round_index: int) -> bool:
        """Whether the client trains and uploads a tensor in a round; all clients train other tensors."""
        if not self._rule.trains(name, round_index):
            return False
        if not module_of(name):
            return True
        own = (self._client + round_index) % self._parts
        return self._modules.index(module_of(name)) % self._parts == own
