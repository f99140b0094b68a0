"""Rows 29 to 32: the packet level against the modem, in white noise, behind static taps and in fading.

Measures fewer packets than `channel.fidelity`, which is imported on demand: it needs numba.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from channel.coding.extra import require_numba
from channel.core.errors import ChannelError
from channel.validation.check import Check, NotRunHere

if TYPE_CHECKING:
    from channel.fidelity.comparison import MeasuredScheme
    from channel.fidelity.faded_packets import FadingRow

_MCS, _PACKETS, _SEED = (9, 16, 25), 150, 7
_FADED_PACKETS = 100


def _needs_modem(measure: Callable[[], float]) -> float:
    try:
        require_numba("the modem")
    except ChannelError as error:
        raise NotRunHere(str(error)) from None
    return measure()


@lru_cache
def _static_rows() -> tuple["MeasuredScheme", ...]:
    from channel.fidelity.comparison import compared

    return tuple(compared(mcs, packets=_PACKETS, seed=_SEED, progress=lambda _: None)[0] for mcs in _MCS)


@lru_cache
def _faded_rows() -> tuple["FadingRow", ...]:
    from channel.fidelity.faded_packets import faded
    from channel.fidelity.fading import walking

    cases = [case for case in walking() if case.mcs == _MCS[1]]
    return tuple(faded(case, packets=_FADED_PACKETS, seed=_SEED, progress=lambda _: None) for case in cases)


@lru_cache
def _token_row() -> "FadingRow":
    from channel.fidelity.faded_packets import faded_token_row
    from channel.fidelity.fading import of_tokens

    (case,) = (case for case in of_tokens() if case.mcs == _MCS[1])
    return faded_token_row(case, packets=_FADED_PACKETS, seed=_SEED, progress=lambda _: None)


def _loss_from_committed_db() -> float:
    from channel.phy.receivers import MODEM, implementation_loss_db

    return max(abs(row.loss_db - implementation_loss_db(MODEM)) for row in _static_rows())


def _taps_from_eesm_db() -> float:
    return max(abs(row.difference_db) for row in _static_rows())


def _other_verdicts() -> float:
    return max(1.0 - row.same_verdict for row in _faded_rows())


def _error_rate_difference() -> float:
    return max(abs(row.predicted - row.measured) for row in _faded_rows())


def _brier() -> float:
    return max(row.brier for row in _faded_rows())


def _other_token_verdicts() -> float:
    return 1.0 - _token_row().same_verdict


def _token_loss_difference() -> float:
    return abs(_token_row().predicted - _token_row().measured)


_IN_FADING = f"TDL-A, -C and -D, MCS {_MCS[1]}"
_OF_TOKENS = f"TDL-C, MCS {_MCS[1]}"

CHECKS: tuple[Check, ...] = tuple(
    Check(
        row=row,
        what=what,
        expected=0.0,
        tolerance=tolerance,
        measure=partial(_needs_modem, measure),
        is_quick=False,
    )
    for row, what, tolerance, measure in (
        ("29", "modem's loss less the committed one, MCS 9 16 25, dB", 0.25, _loss_from_committed_db),
        ("30", "modem behind three taps less EESM, MCS 9 16 25, dB", 0.7, _taps_from_eesm_db),
        ("31", f"packets with another outcome than predicted, {_IN_FADING}", 0.05, _other_verdicts),
        ("31", f"error rate, predicted less measured, {_IN_FADING}", 0.05, _error_rate_difference),
        ("31", f"Brier score of the predictions, {_IN_FADING}", 0.05, _brier),
        (
            "32",
            f"tokens with another outcome than predicted, {_OF_TOKENS}",
            0.05,
            _other_token_verdicts,
        ),
        ("32", f"token loss, predicted less measured, {_OF_TOKENS}", 0.05, _token_loss_difference),
    )
)
