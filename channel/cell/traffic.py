"""Traffic demands (full buffer, or finite transfers), and closed forms of queueing delay."""

from dataclasses import dataclass

import numpy as np

from channel.core.arrays import Array, at_least
from channel.core.errors import BadParameter


@dataclass(frozen=True, kw_only=True, eq=False)
class Demand:
    """The bytes (U,) that each user sends in one direction from `start_s` (U,) on.

    Infinity is a full buffer. Raises BadParameter for negative numbers or shapes that differ.
    """

    payload_bytes: Array
    start_s: Array

    def __post_init__(self) -> None:
        at_least("start_s", self.start_s, 0.0)
        if np.shape(self.payload_bytes) != np.shape(self.start_s) or np.ndim(self.start_s) != 1:
            raise BadParameter(
                "payload_bytes and start_s must both be (U,), got "
                f"{np.shape(self.payload_bytes)} and {np.shape(self.start_s)}"
            )
        if not np.all(self.payload_bytes >= 0.0):
            raise BadParameter(f"payload_bytes must be at least 0, got {np.min(self.payload_bytes)}")

    @classmethod
    def transfers(cls, payload_bytes: Array | float, users: int, start_s: float = 0.0) -> "Demand":
        """Every user sends `payload_bytes` once, from `start_s` on; infinity is a full buffer."""
        return cls(
            payload_bytes=np.broadcast_to(np.asarray(payload_bytes, dtype=np.float64), (users,)),
            start_s=np.full(users, start_s),
        )


def mean_wait_fixed_service(load: float, service_s: float) -> float:
    """The mean waiting time of an M/D/1 queue with service time `service_s`.

    rho / (2 mu (1 - rho)): Kleinrock, Queueing Systems 1, 1975, section 5.6, without service variance.
    Raises BadParameter for a load outside [0, 1).
    """
    if not 0.0 <= load < 1.0:
        raise BadParameter(f"load must lie in [0, 1), got {load}")
    return load * service_s / (2.0 * (1.0 - load))


def waits_s(arrival_s: Array, service_s: Array) -> Array:
    """The waiting times of a single-server FIFO queue, by Lindley's recursion.

    w_n = max(0, w_(n-1) + s_(n-1) - (a_n - a_(n-1))), as a running sum less its running minimum.
    """
    steps = service_s[:-1] - np.diff(arrival_s)
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return total - np.minimum.accumulate(total)
