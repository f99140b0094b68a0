"""Radio link and cell simulation for packets: numpy and scipy only, never torch.

`simulate` runs a scenario, `engine_of` makes its cell for messages that are submitted while it runs, and
`FixedLink` and `TraceLink` are links without a cell; docs/channel.md has examples.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channel.api import Simulation, simulate
    from channel.cell.engine import Engine, engine_of
    from channel.core.errors import BadParameter, ChannelError
    from channel.core.link import Delivery, Link, Transfer
    from channel.links.fixed import Direction, FixedLink
    from channel.links.trace import TraceLink
    from channel.scenario.load import Scenario
    from channel.scenario.load import load as load_scenario
    from channel.scenario.load import names as scenario_names

__all__ = [
    "BadParameter",
    "ChannelError",
    "Delivery",
    "Direction",
    "Engine",
    "FixedLink",
    "Link",
    "Scenario",
    "Simulation",
    "TraceLink",
    "Transfer",
    "engine_of",
    "load_scenario",
    "scenario_names",
    "simulate",
]

_HOME = {
    "BadParameter": ("channel.core.errors", "BadParameter"),
    "ChannelError": ("channel.core.errors", "ChannelError"),
    "Delivery": ("channel.core.link", "Delivery"),
    "Direction": ("channel.links.fixed", "Direction"),
    "Engine": ("channel.cell.engine", "Engine"),
    "FixedLink": ("channel.links.fixed", "FixedLink"),
    "Link": ("channel.core.link", "Link"),
    "Scenario": ("channel.scenario.load", "Scenario"),
    "Simulation": ("channel.api", "Simulation"),
    "TraceLink": ("channel.links.trace", "TraceLink"),
    "Transfer": ("channel.core.link", "Transfer"),
    "engine_of": ("channel.cell.engine", "engine_of"),
    "load_scenario": ("channel.scenario.load", "load"),
    "scenario_names": ("channel.scenario.load", "names"),
    "simulate": ("channel.api", "simulate"),
}
"""The module of each name and its name there: imported, and numpy and scipy with it, when first used."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
