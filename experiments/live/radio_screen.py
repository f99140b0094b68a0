"""The screen of a run over the waveform: SNR and goodput beside the progress."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from channel.core.clock import Clock
from experiments.live.radio_figures import live_figures
from splitfl.runtime.screen import Screen

_EVERY_S: Final = 1.0


class Heard(Protocol):
    """What gives the last rows of all links: a `RadioLink`."""

    def latest(self) -> Sequence[Mapping[str, Any]]: ...


class RadioScreen:
    """Hands everything on to `screen`, and the figures of `link` about once a second while steps pass."""

    def __init__(self, screen: Screen, link: Heard, clock: Clock) -> None:
        self._screen, self._link, self._clock = screen, link, clock
        self._due_s = clock.now_s()
        self.waiting, self.note, self.live = screen.waiting, screen.note, screen.live

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Screen."""
        if self._clock.now_s() >= self._due_s:
            self._due_s = self._clock.now_s() + _EVERY_S
            self._screen.live(live_figures(self._link.latest()))
        self._screen.stepped(round_index, client, steps)

    def measured(self, row: Mapping[str, Any]) -> None:
        """See Screen."""
        self._screen.measured(row)
