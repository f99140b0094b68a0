"""Opens the radios of a run, and saves what they recorded once it is over."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from channel.core.clock import WallClock
from experiments.live.radio_figures import RECORD, totals
from experiments.live.radio_screen import RadioScreen
from splitfl.config import RunConfig
from splitfl.runtime.screen import Screen
from splitfl.runtime.serve import Ended
from splitfl.server.run import write_json
from splitfl.setup.links import is_carried
from testbed.radio.tokens import on_demand

if TYPE_CHECKING:
    from testbed.radio.tokens.carrier import TokenCarrier
    from testbed.radio.tokens.server import TokenServer


class RadioRecorder:
    """Implements OpenCarrier and OpenServerRadio by its methods, for one run."""

    def __init__(self) -> None:
        self._opened: TokenCarrier | TokenServer | None = None

    def open_carrier(self, config: RunConfig) -> "TokenCarrier":
        """See OpenCarrier."""
        self._opened = carrier = on_demand.open_carrier(config)
        return carrier

    def open_server_radio(self, config: RunConfig) -> "TokenServer":
        """See OpenServerRadio."""
        self._opened = server = on_demand.open_server_radio(config)
        return server

    def latest(self) -> Sequence[Mapping[str, Any]]:
        """The last rows of all links, for a screen."""
        return [] if self._opened is None else self._opened.latest()

    def shown(self, screen: Screen, config: RunConfig) -> Screen:
        """The screen, with SNR and goodput where messages cross radios."""
        return RadioScreen(screen, self, WallClock()) if is_carried(config) else screen

    def saved(self, ended: Ended) -> Ended:
        """Adds totals to the summary as `radio`, and writes the details to RECORD in the run's folder."""
        record = None if self._opened is None else self._opened.record()
        if record is None:
            return ended
        folder, summary = ended
        write_json(folder / RECORD, record)
        summary = {**summary, "radio": totals(record)}
        write_json(folder / "summary.json", summary)
        return folder, summary
