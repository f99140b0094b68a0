"""The packet modem against the block error law, and the time that it takes.

Five groups of figures: how far the SNR of 10 % packet errors lies above the law, in white noise and behind
three taps (in decibels); packets in fading against the packet level's predictions; how many times as many
tokens are lost packet by packet as token by token; receive time over that of LDPC decoding alone; and CPU
time per packet.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from channel.coding.extra import MissingNumba, require_numba
from channel.phy.receivers import MODEM, implementation_loss_db
from experiments.bench.fresh import Fresh, NotHere
from experiments.bench.radio.cell_clock import one_thread
from experiments.bench.ratio import Figure, at_least, at_most, pair_ratios
from experiments.bench.setting import Setting

if TYPE_CHECKING:
    from channel.fidelity.faded_packets import FadingRow

_SCHEMES = (6, 9, 13, 16, 19, 25)
_TIMED = (9, 16, 19)
_QUICK = (9, 16)
_PACKETS, _QUICK_PACKETS = 200, 50
_FADED_PACKETS, _QUICK_FADED_PACKETS = 100, 50


def modem(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Implementation losses, EESM behind taps, and receive time over LDPC decoding. NotHere without numba."""
    try:
        require_numba("the modem")
    except MissingNumba as reason:
        raise NotHere(str(reason)) from None
    from experiments.bench.radio.modem_clock import measure  # imports numba

    schemes = _QUICK if setting.is_quick else _SCHEMES
    packets = _QUICK_PACKETS if setting.is_quick else _PACKETS
    progress(f"{len(schemes)} schemes, {packets} packets at each SNR")
    faded_packets = _QUICK_FADED_PACKETS if setting.is_quick else _FADED_PACKETS
    log, timed = setting.folder / "modem.log", _QUICK if setting.is_quick else _TIMED
    with one_thread(), Fresh(log, measure, schemes, packets, faded_packets, timed, setting.sweeps) as process:
        losses_db, differences_db = process.take(3600.0)
        process.go()
        progress("packets in fading")
        rows = process.take(3600.0)
        process.go()
        progress("tokens and packets")
        tokens = process.take(600.0)
        process.go()
        progress("receive time")
        times = process.take()
        process.go()
    figures = [*_fidelity(losses_db, differences_db), *_in_fading(rows)]
    what = f"loss packet by packet / token by token ({tokens.token_loss:.3f}), {tokens.snr_db:g} dB"
    figures.append(Figure(what=f"{what}, MCS {tokens.mcs}", ratios=(tokens.ratio,), target=at_least(5.0)))
    for mcs, (send_s, receive_s, decode_s) in times.items():
        ratios = pair_ratios(receive_s, decode_s)
        what = f"receive time of 1,400 bytes at 10 % loss / LDPC decoding alone, MCS {mcs}"
        figures.append(Figure(what=what, ratios=ratios, target=at_most(1.6)))
        if not setting.is_quick:
            figures.append(Figure(what=f"ms to receive, MCS {mcs}", ratios=_in_ms(receive_s)))
            figures.append(Figure(what=f"ms to send, MCS {mcs}", ratios=_in_ms(send_s)))
    return figures


def _fidelity(losses_db: list[float], differences_db: list[float]) -> list[Figure]:
    loss_db = implementation_loss_db(MODEM)
    misses_db = tuple(abs(one - loss_db) for one in losses_db)
    gaps_db = tuple(abs(one) for one in differences_db)
    mean_db = abs(sum(differences_db) / len(differences_db))
    return [
        Figure(what=f"dB, implementation loss of {MODEM}", ratios=(loss_db,), target=at_most(1.2)),
        Figure(what="dB, farthest scheme from it", ratios=(max(misses_db),), target=at_most(0.25)),
        Figure(what="dB, three taps against EESM, farthest", ratios=(max(gaps_db),), target=at_most(0.7)),
        Figure(what="dB, three taps against EESM, mean", ratios=(mean_db,), target=at_most(0.4)),
    ]


def _in_fading(rows: list["FadingRow"]) -> list[Figure]:
    """Of each the worst row."""
    from channel.fidelity.fading import BRIER, ERROR_RATE_DIFFERENCE, SAME_VERDICT  # imports numba

    same = min(row.same_verdict for row in rows)
    difference = max(abs(row.predicted - row.measured) for row in rows)
    brier = max(row.brier for row in rows)
    what = f"worst of {len(rows)} rows of {rows[0].packets} packets in fading"
    return [
        Figure(what=f"same outcome as predicted, {what}", ratios=(same,), target=at_least(SAME_VERDICT)),
        Figure(
            what=f"PER, predicted less measured, {what}",
            ratios=(difference,),
            target=at_most(ERROR_RATE_DIFFERENCE),
        ),
        Figure(what=f"Brier score, {what}", ratios=(brier,), target=at_most(BRIER)),
    ]


def _in_ms(spent_s: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(1e3 * one for one in spent_s)
