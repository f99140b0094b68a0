"""Which of the clients take part in a round, where not all of them do."""

from dataclasses import dataclass

from channel.core.rng import stream
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Selection:
    """In every round `select` of the clients, drawn from the seed; 0: all of them."""

    seed: int
    clients: int
    select: int

    @classmethod
    def of(cls, config: RunConfig) -> "Selection":
        """As the settings say; ConfigError for more than there are, and in a cell."""
        select, clients = config.fault_tolerance.clients_per_round, config.federation.clients
        if select > clients:
            raise ConfigError(
                f"fault_tolerance.clients_per_round must be at most federation.clients, {clients}, "
                f"got {select}"
            )
        if select and config.link.scenario:
            raise ConfigError(f"fault_tolerance.clients_per_round must be 0 with link.scenario, got {select}")
        return cls(seed=config.train.seed, clients=clients, select=select)

    def takes_part(self, client: int, round_index: int) -> bool:
        """Whether this client is among those of this round."""
        if not self.select:
            return True
        chance = stream(self.seed, "select", round_index)
        return client in chance.choice(self.clients, self.select, replace=False)
