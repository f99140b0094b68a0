"""N nodes that hear each other's samples through the links between them.

Axes: N nodes, the base station first; B samples of a call.
"""

from collections.abc import Sequence

import numpy as np

from channel.core.arrays import Array, above
from channel.core.errors import BadParameter
from channel.iq.delay_filters import Samples
from channel.iq.disturbance import Disturbance
from channel.iq.front_end import FrontEnd, Oscillator
from channel.iq.knots import Knots
from channel.iq.overlap_save import Links, OverlapFrame, OverlapSave, OverlapSegments


class IqChannel:
    """A stream of samples from N nodes to N nodes; no I/O and no clock but the number of samples.

    A magnitude of 1 sent is the node's transmit power; one received is its `full_scale_dbm`. A node hears the
    sum of all others through their links, delayed by `latency` samples beyond the links' own delays, plus
    interference and noise. Calls may cut the stream anywhere. The output is the same to the last bit if each
    call ends at a multiple of `block`, and otherwise within the rounding of the transforms (1e-6 of the
    strongest signal), since a frame that is not full yet is transformed with zeros in the place of the rest.
    """

    def __init__(
        self,
        *,
        rate_hz: float,
        links: Links,
        knots: Knots,
        frame: OverlapFrame,
        disturbance: Disturbance | None,
        front_ends: Sequence[FrontEnd],
        full_scale_dbm_N: Array,
        is_held: bool = False,
        seed: int = 0,
    ) -> None:
        self.rate_hz = float(above("rate_hz", rate_hz, 0.0))
        self.front_ends, self.full_scale_dbm_N = tuple(front_ends), full_scale_dbm_N
        self.latency, self.block = frame.reach, frame.block
        self.position = 0
        ppm_N = np.asarray([one.sample_rate_ppm for one in self.front_ends])
        segments = OverlapSegments(links, knots, frame, is_held=is_held, rate_hz=rate_hz, ppm_N=ppm_N)
        self._air = OverlapSave(self.nodes, links.pairs, segments, frame)
        self._disturbance = disturbance
        self._impaired = [node for node, one in enumerate(self.front_ends) if not one.is_ideal]
        self._oscillators = [
            Oscillator(one, rate_hz=rate_hz, seed=seed, node=node) for node, one in enumerate(self.front_ends)
        ]

    @property
    def nodes(self) -> int:
        """N, the number of nodes."""
        return len(self.front_ends)

    def step(self, sent_NB: Samples) -> Samples:
        """What the nodes receive (N, B) in the samples in which they send these (N, B), complex64.

        The samples sent must be finite. Raises BadParameter for another shape or type.
        """
        if sent_NB.ndim != 2 or sent_NB.shape[0] != self.nodes or sent_NB.dtype != np.complex64:
            raise BadParameter(
                f"samples must be complex64 of shape ({self.nodes}, count), "
                f"got {sent_NB.dtype} of shape {sent_NB.shape}"
            )
        if not sent_NB.size:
            return sent_NB.copy()
        count = sent_NB.shape[1]
        rotations = [one.rotation(count) for one in self._oscillators]
        if self._impaired:
            sent_NB = sent_NB.copy()
        for node in self._impaired:
            sent_NB[node] = self.front_ends[node].transmitted(sent_NB[node], rotations[node])
        arrived_NB = self._air.step(sent_NB)
        if self._disturbance is not None:
            self._disturbance.add(arrived_NB, self.position)
        for node in self._impaired:
            arrived_NB[node] = self.front_ends[node].received(arrived_NB[node], rotations[node])
        self.position += count
        return arrived_NB
