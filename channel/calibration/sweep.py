"""The simulated points: for every scheme a grid of SNRs across the waterfall region."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from channel.calibration.simulation import CHUNK, BlerCurve, chunk_failures
from channel.coding.base_graph import base_graph_number
from channel.core.errors import BadParameter
from channel.phy.block_error import REFERENCE_BITS
from channel.phy.capacity import snr_db_of_information
from channel.phy.mcs import CQI_TABLES, MCS_TABLES

SHORT_BITS, LONG_BITS = 250, 4000
"""Two lengths besides the reference; at one of them the standard may use the other base graph."""
_CHECKED_MCS = (4, 9, 16, 24)
"""Schemes of table 5.1.3.1-1 simulated at both lengths, to check the scaling of the slope."""

_MAX_RATE, _MIN_RATE = 0.97, 0.005
"""The BLER limits of the waterfall region, estimated from one chunk."""
_GAP_DB = 1.0
"""The approximate gap of s50_db to BICM capacity: the start of the search."""


@dataclass(frozen=True, order=True)
class Point:
    """The number of simulated and failed blocks of a curve at one SNR."""

    curve: BlerCurve
    snr_db: float
    blocks: int
    errors: int


def curves() -> tuple[BlerCurve, ...]:
    """All curves to simulate.

    Every scheme of the MCS and CQI tables at the reference length, a few at other lengths, and every scheme
    at the length, if any, at which it uses the other base graph.
    """
    tables = (*MCS_TABLES.values(), *CQI_TABLES.values())
    schemes = sorted({(order, rate) for table in tables for order, rates in table.groups for rate in rates})
    reference = [BlerCurve(order, rate, int(REFERENCE_BITS)) for order, rate in schemes]
    table = MCS_TABLES["64qam"]
    orders, rates = table.modulation_order_I.tolist(), (table.code_rate_I * 1024.0).tolist()
    checked = [
        BlerCurve(orders[mcs], rates[mcs], bits) for bits in (SHORT_BITS, LONG_BITS) for mcs in _CHECKED_MCS
    ]
    others = [other for curve in reference if (other := with_other_graph(curve)) is not None]
    return tuple(dict.fromkeys((*reference, *checked, *others)))


def with_other_graph(curve: BlerCurve) -> BlerCurve | None:
    """The same scheme at a length with the other base graph; None if both lengths use the same one."""
    rate = curve.code_rate_1024 / 1024.0
    here = base_graph_number(curve.bits, rate)
    lengths = (bits for bits in (SHORT_BITS, LONG_BITS) if base_graph_number(bits, rate) != here)
    return next((replace(curve, bits=bits) for bits in lengths), None)


def swept(
    curve: BlerCurve, *, seed: int, blocks: int, done: Callable[[BlerCurve, float], Point | None]
) -> Iterator[Point]:
    """Yields the points of a curve as they are simulated; points that `done` returns are reused.

    The grid step is 0.2 dB at the reference length and scales with the slope of the law. The grid ends
    where the first CHUNK blocks of a point fail nearly always, or nearly never.
    Raises BadParameter unless `blocks` is a multiple of CHUNK.
    """
    if blocks < CHUNK or blocks % CHUNK:
        raise BadParameter(f"blocks must be a multiple of {CHUNK} and above 0, got {blocks}")
    code = curve.code()

    def failed(snr_db: float, chunks: Iterable[int]) -> int:
        return sum(chunk_failures(curve, code, snr_db, seed=seed, chunk=chunk) for chunk in chunks)

    for snr_db in _window_db(curve, lambda snr_db: failed(snr_db, [0]) / CHUNK):
        known = done(curve, snr_db)
        errors = 0 if known else failed(snr_db, range(blocks // CHUNK))
        yield known or Point(curve, snr_db, blocks, errors)


def _window_db(curve: BlerCurve, scouted: Callable[[float], float]) -> list[float]:
    """The SNRs of the grid in increasing order."""
    step_db = round(0.2 * math.sqrt(REFERENCE_BITS / curve.bits), 1)
    bound_db = float(snr_db_of_information(curve.modulation_order, curve.code_rate_1024 / 1024.0))
    first = last = round((bound_db + _GAP_DB) / step_db)
    rates: dict[int, float] = {}

    def rate(step: int) -> float:
        if step not in rates:
            rates[step] = scouted(round(step * step_db, 2))
        return rates[step]

    while rate(first) < _MAX_RATE:
        first -= 1
    while rate(last) > _MIN_RATE:
        last += 1
    return [round(step * step_db, 2) for step in range(first, last + 1) if _MIN_RATE < rate(step) < _MAX_RATE]
