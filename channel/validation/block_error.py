"""Row 19: the fitted block error law against the committed LDPC simulation."""

from importlib.resources import files

from channel.calibration.document import POINTS_FILE, ten_percent_points_db
from channel.calibration.simulation import BlerCurve
from channel.phy.block_error import BlockErrorLaw
from channel.phy.mcs import mcs_table
from channel.validation.check import Check, NotRunHere


def _largest_gap_db() -> float:
    """The largest gap of the 10 % BLER points of law and simulation, MCS 4, 9, 16, 24, 250 to 4,000 bits."""
    table = mcs_table("64qam")
    law = BlockErrorLaw.of(table)
    if not files("channel.phy").joinpath(POINTS_FILE).is_file():
        raise NotRunHere("needs the simulated points; run python -m channel.calibration")
    points_db = ten_percent_points_db()
    gaps = []
    for bits in (250, 1000, 4000):
        predicted_db = law.threshold_db(target=0.1, bits=float(bits))
        for mcs in (4, 9, 16, 24):
            order, rate = int(table.modulation_order_I[mcs]), float(table.code_rate_I[mcs]) * 1024.0
            gaps.append(abs(float(predicted_db[mcs]) - points_db[BlerCurve(order, rate, bits)]))
    return max(gaps)


CHECKS: tuple[Check, ...] = (
    Check(
        row="19",
        what="BLER law's 10 % points against simulated LDPC, MCS 4 9 16 24, dB",
        expected=0.0,
        tolerance=0.15,
        measure=_largest_gap_db,
    ),
)
