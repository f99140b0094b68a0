"""What breaks when in a soak, drawn beforehand: in rounds, since no two machines take the same time."""

from dataclasses import dataclass
from pathlib import Path

from channel.core.rng import stream
from experiments.bench.setting import Setting
from splitfl.config import RunConfig, above, at_least
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment_file import as_dict, from_dict

MORTAL_SHARE = 0.3
"""The share of the clients that die and come back; the others live from beginning to end."""

_LAST_DEATH_SHARE = 0.9  # so that none is left for when the run is over
_LONGEST_WAIT_S = 0.4  # a few rounds: so that whatever is under way is met at every point of it


@dataclass(frozen=True, kw_only=True)
class Death:
    """A client (None: the server) is killed `wait_s` after so many rounds, and is back `away_s` later."""

    rounds_done: int
    wait_s: float
    away_s: float
    client: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long the soak is and how much breaks: the server dies `kills` times, clients `deaths` times."""

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
            raise ConfigError(
                f"on_loss must be continue or rollback, or nothing survives, got {self.on_loss!r}"
            )

    @property
    def mortals(self) -> tuple[int, ...]:
        """The clients that die now and then."""
        count = max(1, round(MORTAL_SHARE * self.clients))
        drawn = stream(self.seed, "soak", "mortals").choice(self.clients, count, replace=False)
        return tuple(sorted(int(client) for client in drawn))

    def all_deaths(self) -> list[Death]:
        """Every death, in the order of their rounds."""
        mortals, chance = self.mortals, stream(self.seed, "soak", "deaths")

        def one(client: int | None) -> Death:
            return Death(
                rounds_done=int(chance.integers(0, max(1, int(_LAST_DEATH_SHARE * self.rounds)))),
                wait_s=float(chance.uniform(0.0, _LONGEST_WAIT_S)),
                away_s=float(chance.uniform(0.0, 1.5 * self.timeout_s if client is not None else 1.0)),
                client=client,
            )

        of_clients = [one(int(chance.choice(mortals))) for _ in range(self.deaths)]
        return sorted(
            [*of_clients, *(one(None) for _ in range(self.kills))], key=lambda death: death.rounds_done
        )

    def prepare(self, folder: Path) -> RunConfig:
        """Writes a tiny model and its texts into the folder; the settings of the run that is soaked."""
        setting = Setting(
            folder=folder,
            blocks=2,
            cut=1,
            width=16,
            heads=2,
            vocabulary=64,
            rank=2,
            batch=2 * self.clients,  # so that each of them owns a few of the texts
            tokens=8,
            steps=1,
        )
        table = as_dict(setting.prepare().config(rounds=self.rounds, clients=self.clients, road="grpc"))
        table["train"] |= {"batch_size": 2, "seed": self.seed}
        table["transport"]["timeout_s"] = self.timeout_s
        table["fault_tolerance"] |= {"on_loss": self.on_loss, "reconnect_timeout_s": 120.0}
        return from_dict(table)
