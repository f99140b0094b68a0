"""The interface of kinds of links: construction from settings, and description."""

from collections.abc import Callable
from dataclasses import dataclass

from channel.core.link import Link
from channel.scenario.load import Scenario
from splitfl.config import LinkConfig, NoSettings, RunConfig
from splitfl.config.plugin import check_settings_type
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LinkKind:
    """A kind of emulated link; `about` is a line for lists, `describe` a phrase for reports.

    Either `make` returns the link of each client, or `scenario` the cell that all clients share as its
    first users. Both raise ConfigError for invalid settings. `settings` is the type of its settings, a
    frozen dataclass whose fields are further keys of [link].
    """

    about: str
    describe: Callable[[LinkConfig], str]
    make: Callable[[RunConfig], Link] | None = None
    scenario: Callable[[RunConfig], Scenario] | None = None
    settings: type = NoSettings

    def __post_init__(self) -> None:
        if (self.make is None) == (self.scenario is None):
            raise ConfigError("a kind of link must have either a make or a scenario")
        check_settings_type("LinkKind.settings", self.settings, LinkConfig)
