"""What a run measures of its own leakage."""

from dataclasses import dataclass

from splitfl.config.checks import at_least
from splitfl.config.plugin import PluginTable
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig(PluginTable):
    """Attacks on what the server receives: they measure leakage, and do not change a bit of the run.

    `probes` names the attacks (empty: nothing is recorded). The first and the last round and each `every`-th
    in between are observed, with `samples` sequences each, divided among the clients; they are stored in the
    run's folder. In one process the attacks are scored after each observed round, else by `splitfl attack`.
    `show_texts` writes ten texts and what was recovered of them into the run's folder and its report; it must
    be false over a transport without encryption.
    """

    probes: tuple[str, ...] = ()
    every: int = 4
    samples: int = 64
    show_texts: bool = True

    def __post_init__(self) -> None:
        if len(set(self.probes)) < len(self.probes):
            raise ConfigError(f"privacy.probes must name each attack once, got {', '.join(self.probes)}")
        at_least("privacy.every", self.every, 1)
        at_least("privacy.samples", self.samples, 1)

    def observes(self, round_index: int, rounds: int) -> bool:
        """Whether round `round_index` of `rounds` is observed."""
        is_due = round_index % self.every == 0 or round_index + 1 == rounds
        return bool(self.probes) and is_due
