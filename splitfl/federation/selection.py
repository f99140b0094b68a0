"""Random selection of the clients that participate in a round."""

from dataclasses import dataclass

from channel.core.rng import stream
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Selection:
    """In every round `select` clients participate, drawn from the seed; 0 is all of them."""

    seed: int
    clients: int
    select: int

    @classmethod
    def of(cls, config: RunConfig) -> "Selection":
        """From the settings. Raises ConfigError for more clients than there are, and with a scenario."""
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
        """Whether this client participates in this round."""
        if not self.select:
            return True
        rng = stream(self.seed, "select", round_index)
        return client in rng.choice(self.clients, self.select, replace=False)
