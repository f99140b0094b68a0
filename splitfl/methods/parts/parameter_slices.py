"""The adapted modules divided among the clients, one place further every round.

An estimate of a gradient is the better the fewer parameters it is of (Spry, Panchal et al., NeurIPS'24).
"""

import re
from collections.abc import Sequence
from typing import Final

from splitfl.federation.aggregators import Aggregator

_OF_ADAPTERS: Final = re.compile(r"(.*)\.(?:lora_|ia3_l|vera_lambda_|tinylora_v|hada_w)")


class Slice:
    """The tensors of one client in a round, among those that the rule of aggregation trains."""

    def __init__(self, rule: Aggregator, names: Sequence[str], client: int, clients: int) -> None:
        self._rule = rule
        self._modules = list(dict.fromkeys(_module(name) for name in names if _module(name)))
        self._client = client
        self._parts = max(1, min(clients, len(self._modules)))

    def trains(self, name: str, round_index: int) -> bool:
        """Whether this client trains, and sends, the tensor of this name in this round."""
        if not self._rule.trains(name, round_index):
            return False
        if not _module(name):
            return True
        mine = (self._client + round_index) % self._parts
        return self._modules.index(_module(name)) % self._parts == mine


def _module(name: str) -> str:
    """The adapted module that a tensor is of; empty for what is no adapter's."""
    found = _OF_ADAPTERS.match(name)
    return found[1] if found else ""
