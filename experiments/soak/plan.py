"""The fault schedule of a soak, drawn in advance, in rounds rather than in machine-dependent time."""

from dataclasses import dataclass
from pathlib import Path

from channel.core.rng import stream
from experiments.bench.setting import Setting
from splitfl.config import RunConfig, above, at_least
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment_file import as_dict, from_dict

MORTAL_SHARE = 0.3
"""The share of clients that are killed and restarted; the others run from start to end."""

_LAST_DEATH_SHARE = 0.9  # so that none is due after the run's end
_LONGEST_WAIT_S = 0.4  # a few rounds: so that kills hit every phase of a round


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Kills a client (None: the server) `wait_s` after `rounds_done` rounds; restarts it `away_s` later."""

    rounds_done: int
    wait_s: float
    away_s: float
    client: int | None


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """Length and faults of a soak: `kills` kills of the server, `deaths` kills of clients."""

    rounds: int
    clients: int
    kills: int
    deaths: int
    seed: int
    on_loss: str = "continue"
    timeout_s: float = 6.0

    def __post_init__(self) -> None:
        at_least("rounds", self.rounds, 3)
        at_least("clients", self.clients, 2)
        at_least("kills", self.kills, 0)
        at_least("deaths", self.deaths, 0)
        at_least("seed", self.seed, 0)
        above("timeout_s", self.timeout_s, 0.0)
        if self.on_loss not in ("continue", "rollback"):
            raise ConfigError(f"on_loss must be continue or rollback, got {self.on_loss!r}")

    @property
    def mortals(self) -> tuple[int, ...]:
        """The clients that are killed."""
        count = max(1, round(MORTAL_SHARE * self.clients))
        drawn = stream(self.seed, "soak", "mortals").choice(self.clients, count, replace=False)
        return tuple(sorted(int(client) for client in drawn))

    def all_deaths(self) -> list[Kill]:
        """All kills, ordered by round."""
        mortals, rng = self.mortals, stream(self.seed, "soak", "deaths")

        def one(client: int | None) -> Kill:
            return Kill(
                rounds_done=int(rng.integers(0, max(1, int(_LAST_DEATH_SHARE * self.rounds)))),
                wait_s=float(rng.uniform(0.0, _LONGEST_WAIT_S)),
                away_s=float(rng.uniform(0.0, 1.5 * self.timeout_s if client is not None else 1.0)),
                client=client,
            )

        of_clients = [one(int(rng.choice(mortals))) for _ in range(self.deaths)]
        return sorted(
            [*of_clients, *(one(None) for _ in range(self.kills))], key=lambda kill: kill.rounds_done
        )

    def prepare(self, folder: Path) -> RunConfig:
        """Writes a tiny model and its texts into the folder; returns the run's settings."""
        setting = Setting(
            folder=folder,
            blocks=2,
            cut=1,
            width=16,
            heads=2,
            vocabulary=64,
            rank=2,
            batch=2 * self.clients,  # so that each client has a few texts
            tokens=8,
            steps=1,
        )
        table = as_dict(setting.prepare().config(rounds=self.rounds, clients=self.clients, transport="grpc"))
        table["train"] |= {"batch_size": 2, "seed": self.seed}
        table["transport"]["timeout_s"] = self.timeout_s
        table["fault_tolerance"] |= {"on_loss": self.on_loss, "reconnect_timeout_s": 120.0}
        return from_dict(table)
