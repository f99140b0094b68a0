"""The scenario tables that prescribe links directly, as Colosseum scenarios do, instead of positions.

Node 0 is the base station, node u + 1 is user u.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from channel.core.arrays import Array, at_least, within
from channel.core.errors import BadParameter
from channel.links.recordings import require_nondecreasing
from channel.propagation.recorded_taps import NodeTaps, read_npz
from channel.scenario.colosseum import STEP_S

_MAX_DB = 400.0
_MAX_LENGTH_S = 1e-3
_MAX_HZ = 1e6
_MAX_CELLS = 2e7
"""About 300 MB of complex gains."""


@dataclass(frozen=True, kw_only=True)
class LinksTable:
    """[links]: constant losses in decibels, `loss_db[i][j]` from node i to node j, 0 from a node to itself.

    Used with `place.environment` "links"; `place.loss_db` is added to each. Raises BadParameter for an
    array that is not square, losses out of range, and a nonzero diagonal.
    """

    loss_db: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.loss_db:
            return
        nodes = len(self.loss_db)
        if nodes < 2 or any(not isinstance(row, tuple) or len(row) != nodes for row in self.loss_db):
            raise BadParameter(f"loss_db of links must be a square of at least 2 nodes, got {self.loss_db}")
        loss_db = within("loss_db of links", _numbers("loss_db of links", self.loss_db), 0.0, _MAX_DB)
        if np.any(np.diag(loss_db)):
            raise BadParameter(
                f"loss_db of links must be 0 from a node to itself, got {np.diag(loss_db).tolist()}"
            )

    @property
    def users(self) -> int:
        """The number of nodes without the base station."""
        return len(self.loss_db) - 1


@dataclass(frozen=True, kw_only=True)
class TapsTable:
    """[taps]: time-varying multipath taps, from a `file` or inline; for `place.environment` "taps".

    A file ends in .mat (see `colosseum_file`) or .npz (see `recorded_taps.read_npz`); its path is relative to
    the scenario. Inline, `gain_db[u][k][l]` is user u's tap l at `time_s[k]`, interpolated linearly in
    decibels, with a phase that rotates at `doppler_hz[l]` and a delay of `delay_s[l]`, the same in both
    directions; users have no links among each other. `place.loss_db` is an additional loss. The taps repeat
    after the last time. Raises BadParameter for values out of range and shapes that do not match.
    """

    file: str = ""
    time_s: tuple[float, ...] = ()
    delay_s: tuple[float, ...] = ()
    doppler_hz: tuple[float, ...] = ()
    gain_db: tuple[tuple[tuple[float, ...], ...], ...] = ()

    def __post_init__(self) -> None:
        written = [name for name in ("time_s", "delay_s", "doppler_hz", "gain_db") if getattr(self, name)]
        if self.file and written:
            raise BadParameter(f"taps must have a file or inline values, got file and {', '.join(written)}")
        if self.file and Path(self.file).suffix.lower() not in (".mat", ".npz"):
            raise BadParameter(f"file of taps must end in .mat or .npz, got {self.file!r}")
        if written:
            self._require_inline()

    def _require_inline(self) -> None:
        times, taps = len(self.time_s), len(self.delay_s)
        self._require_times()
        delay_s = _numbers("delay_s of taps", self.delay_s)
        if np.any(delay_s > _MAX_LENGTH_S):
            raise BadParameter(
                f"delay_s of taps must lie in [0, {_MAX_LENGTH_S:g}] s, got {delay_s.max():g}; "
                f"{delay_s.max():g} ns are {delay_s.max() * 1e-9:g} s"
            )
        at_least("delay_s of taps", delay_s, 0.0)
        within("doppler_hz of taps", _numbers("doppler_hz of taps", self.doppler_hz), -_MAX_HZ, _MAX_HZ)
        if len(self.doppler_hz) != taps:
            raise BadParameter(f"doppler_hz of taps must have {taps} numbers, got {len(self.doppler_hz)}")
        for user, rows in enumerate(self.gain_db):
            if not isinstance(rows, tuple) or not all(isinstance(row, tuple) for row in rows):
                raise BadParameter(f"gain_db of taps must have rows of numbers for user {user}, got {rows!r}")
            if len(rows) != times or any(len(row) != taps for row in rows):
                raise BadParameter(
                    f"gain_db of taps must have {times} rows of {taps} numbers for user {user}"
                )
        if not self.gain_db or not taps:
            raise BadParameter("gain_db of taps must hold numbers for at least one user and one of delay_s")
        within("gain_db of taps", _numbers("gain_db of taps", self.gain_db), -_MAX_DB, _MAX_DB)
        cells = (len(self.gain_db) + 1) ** 2 * (float(self.time_s[-1]) / STEP_S + 1.0) * taps
        if cells > _MAX_CELLS:
            raise BadParameter(
                f"time_s of taps is too long: nodes^2 x milliseconds x taps must be at most "
                f"{_MAX_CELLS:g}, got {cells:g}"
            )

    def _require_times(self) -> None:
        time_s = _numbers("time_s of taps", self.time_s)
        require_nondecreasing("time_s of taps", time_s)
        if time_s.size < 2 or time_s[0] != 0.0 or np.any(np.diff(time_s) <= 0.0):
            raise BadParameter(
                "time_s of taps must hold at least two strictly increasing times from 0 (the last is the "
                f"period), got {list(self.time_s)[:10]}"
            )

    @property
    def is_given(self) -> bool:
        """Whether the scenario has taps."""
        return bool(self.file or self.gain_db)

    def node_taps(self) -> NodeTaps:
        """The taps, sampled every 1 ms if inline. Raises BadParameter for an invalid file."""
        if self.file:
            return taps_of_file(Path(self.file))
        last_s = float(self.time_s[-1])
        time_s_T: Array = np.append(np.arange(math.ceil(last_s / STEP_S - 1e-9)) * STEP_S, last_s)
        users, taps = len(self.gain_db), len(self.delay_s)
        gain = np.zeros((users + 1, users + 1, time_s_T.size, taps), dtype=np.complex128)
        for user, rows in enumerate(self.gain_db):
            for tap in range(taps):
                gain_db_T = np.interp(time_s_T, self.time_s, [row[tap] for row in rows])
                turn_T = np.exp(2j * math.pi * self.doppler_hz[tap] * time_s_T)
                gain[0, user + 1, :, tap] = gain[user + 1, 0, :, tap] = 10.0 ** (gain_db_T / 20.0) * turn_T
        gain[:, :, -1] = gain[:, :, -2]
        delay = np.broadcast_to(np.asarray(self.delay_s, dtype=np.float64), gain.shape)
        return NodeTaps(time_s_T=time_s_T, delay_s_NNTL=delay, gain_NNTL=gain)


def taps_of_file(path: Path) -> NodeTaps:
    """The taps of a .mat or .npz file; errors as in the readers, BadParameter for a missing file."""
    if not path.is_file():
        raise BadParameter(f"file of taps must exist, got {path.name!r}")
    if path.suffix.lower() == ".npz":
        return read_npz(path)
    from channel.scenario import colosseum_file  # imports scipy.io, a sixth of the package's import time

    return colosseum_file.read(path).taps


def _numbers(name: str, values: tuple[object, ...]) -> Array:
    if not _are_numbers(values):  # numpy would convert text to numbers
        raise BadParameter(f"{name} must hold numbers, got {values!r}")
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadParameter(f"{name} must hold numbers, got {values!r}") from None


def _are_numbers(values: object) -> bool:
    return all(map(_are_numbers, values)) if isinstance(values, tuple) else type(values) in (int, float)
