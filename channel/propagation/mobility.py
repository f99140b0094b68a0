"""User mobility: positions in metres as a function of time.

Axes: N users, T times, K waypoints of a track; a position is (x, y) in the plane.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from channel.core.arrays import Array, Real, above, at_least
from channel.core.errors import BadParameter
from channel.propagation.path_loss import SPEED_OF_LIGHT_M_S


class Mobility(Protocol):
    """Positions of users as a stateless function of time."""

    @property
    def is_still(self) -> bool:
        """Whether no user ever moves."""
        ...

    def at(self, time_s: Array) -> Array:
        """Positions (T, N, 2) in metres at times (T,) in seconds."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Straight:
    """Linear motion from `start_N2` with a constant `velocity_N2` in m/s.

    With `box_m` = (width, height) users are reflected at the edges of [0, width] x [0, height], so a uniform
    distribution stays uniform. Raises BadParameter for shapes that differ and starts outside the box.
    """

    start_N2: Array
    velocity_N2: Array
    box_m: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.start_N2)
        if len(shape) != 2 or shape[1] != 2 or shape != np.shape(self.velocity_N2):
            raise BadParameter(
                f"start_N2 and velocity_N2 must both be (N, 2), got {shape} and {np.shape(self.velocity_N2)}"
            )
        if self.box_m is not None:
            above("box_m", np.asarray(self.box_m), 0.0)
            if np.any(self.start_N2 < 0.0) or np.any(self.start_N2 > np.asarray(self.box_m)):
                raise BadParameter(f"start_N2 must lie in the box {self.box_m}, got {self.start_N2.tolist()}")

    @property
    def is_still(self) -> bool:
        return not np.any(self.velocity_N2)

    def at(self, time_s: Array) -> Array:
        free: Array = self.start_N2 + np.asarray(time_s)[:, None, None] * self.velocity_N2
        if self.box_m is None:
            return free
        box = np.asarray(self.box_m, dtype=np.float64)
        return box - np.abs(np.mod(free, 2.0 * box) - box)


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Piecewise linear motion through the waypoints `place_KN2` at `time_K`.

    Raises BadParameter for times that do not increase; `at` raises it outside [time_K[0], time_K[-1]].
    """

    time_K: Array
    place_KN2: Array

    def __post_init__(self) -> None:
        shape = np.shape(self.place_KN2)
        if len(shape) != 3 or shape[2] != 2 or shape[0] != np.size(self.time_K):
            raise BadParameter(f"place_KN2 must be ({np.size(self.time_K)}, N, 2), got {shape}")
        if not np.all(np.diff(self.time_K) > 0.0):
            raise BadParameter("time_K must increase strictly")

    @property
    def is_still(self) -> bool:
        return not np.any(np.diff(self.place_KN2, axis=0))

    def at(self, time_s: Array) -> Array:
        asked = np.asarray(time_s, dtype=np.float64)
        first, last = float(self.time_K[0]), float(self.time_K[-1])
        if asked.size and not (asked.min() >= first and asked.max() <= last):
            raise BadParameter(f"time_s must lie on the track, in [{first}, {last}], got {time_s}")
        leg = np.clip(np.searchsorted(self.time_K, asked, side="right") - 1, 0, max(self.time_K.size - 2, 0))
        follow = np.minimum(leg + 1, self.time_K.size - 1)
        length_s = np.where(follow > leg, self.time_K[follow] - self.time_K[leg], 1.0)
        share = ((asked - self.time_K[leg]) / length_s)[:, None, None]
        return self.place_KN2[leg] + share * (self.place_KN2[follow] - self.place_KN2[leg])

    @classmethod
    def random_waypoint(
        cls, rng: np.random.Generator, *, box_m: tuple[float, float], speed_m_s: float, duration_s: float
    ) -> Self:
        """The random waypoint model for one user: uniform waypoints in the box, without pauses.

        Camp, Boleng & Davies, Wireless Commun. Mob. Comput. 2(5), 2002. Its stationary distribution is
        denser in the middle of the box; `Straight` with a box stays uniform. Raises BadParameter unless
        all are > 0.
        """
        box = above("box_m", np.asarray(box_m), 0.0)
        above("speed_m_s", speed_m_s, 0.0)
        above("duration_s", duration_s, 0.0)
        places, times = [rng.random(2) * box], [0.0]
        while times[-1] < duration_s:
            places.append(rng.random(2) * box)
            times.append(times[-1] + float(np.hypot(*(places[-1] - places[-2]))) / speed_m_s)
        return cls(time_K=np.asarray(times), place_KN2=np.asarray(places)[:, None, :])


def doppler_hz(speed_m_s: Real, frequency_hz: Real) -> Array:
    """The maximum Doppler shift v f / c."""
    speed = at_least("speed_m_s", speed_m_s, 0.0)
    shift: Array = speed * above("frequency_hz", frequency_hz, 0.0) / SPEED_OF_LIGHT_M_S
    return shift
