"""Blocks a second: the cell with its law of block errors beside a simulation of the code itself, by Sionna.

Sionna's chain is its LDPC encoder, QAM mapper, white noise, demapper and decoder (20 iterations) where one
block in ten fails: code blocks of 1,000 bits, as many at each of MCS 4, 9, 16 and 24. The cell is that of the
benchmark `cell`: fading, interference, scheduling, link adaptation and HARQ for a hundred users; a transport
block counts once, though it holds five code blocks or so. CPU time of one thread on both sides.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import torch

from channel.block_error import BlockErrorLaw
from channel.mcs import mcs_table
from channel.rng import stream
from experiments.bench.cell import USERS, many_users, one_thread, timed
from experiments.bench.fresh import Fresh, Hand, NotHere
from experiments.bench.ratio import Figure, at_least, pair_ratios
from experiments.bench.setting import Setting

_SCHEMES = (4, 9, 16, 24)
_BITS = 1000
_UPDATES = ("boxplus-phi", "minsum")
_BATCHES = (8, 32, 128)
_EACH = 128
"""Blocks of each scheme in one measurement: whole batches, whatever their size."""
_CELL_S = 1.0
_DECISIONS = 2_000_000


def ldpc(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """The cell's and the law's blocks a second over those of Sionna. Raises NotHere without Sionna."""
    if find_spec("sionna") is None:
        raise NotHere("sionna-no-rt is not installed: pip install 'splitfl[oracle]'")
    progress("Sionna's chain and the cell in turn")
    with one_thread(), Fresh(setting.folder / "ldpc.log", _time, setting.sweeps) as process:
        rates: list[tuple[float, float, float]] = process.take()
        process.go()
    chain, cell, law = zip(*rates, strict=True)
    figures = [
        Figure(
            what=f"blocks/s, cell of {USERS} users / Sionna's LDPC chain",
            ratios=pair_ratios(cell, chain),
            target=at_least(1000.0),
        )
    ]
    if not setting.is_quick:
        figures.append(Figure(what="the same, the law alone", ratios=pair_ratios(law, chain)))
    return figures


def _time(hand: Hand, sweeps: int) -> None:
    """Hands over blocks a second of Sionna's chain, the cell and the law, a row a sweep."""
    torch.set_num_threads(1)
    with torch.no_grad():
        chains = [_best_chain(mcs) for mcs in _SCHEMES]
        hand([(_chain_rate(chains), _cell_rate(sweep), _law_rate()) for sweep in range(sweeps)])


def _chain_rate(chains: list[Callable[[], int]]) -> float:
    began_s, blocks = time.process_time(), 0
    for chain in chains:
        done = 0
        while done < _EACH:
            done += chain()
        blocks += done
    return blocks / (time.process_time() - began_s)


def _cell_rate(sweep: int) -> float:
    blocks, spent_s = timed(replace(many_users(USERS), seed=sweep), _CELL_S)
    return blocks / spent_s


def _law_rate() -> float:
    """Blocks that the law alone decides, each of a scheme and at an SNR of its own."""
    rng, law = stream(0, "law"), BlockErrorLaw.of(mcs_table("64qam"))
    snr_db, scheme = rng.normal(8.0, 6.0, _DECISIONS), rng.integers(0, 29, _DECISIONS)
    began_s = time.process_time()
    failed = rng.random(_DECISIONS) < law.code_block(scheme, snr_db, float(_BITS))
    return failed.size / (time.process_time() - began_s)


def _best_chain(mcs: int) -> Callable[[], int]:
    """Sionna's chain for this scheme, with the check-node update and the batch that are quickest here."""
    chains = [_chain(mcs, update, batch) for update in _UPDATES for batch in _BATCHES]
    for chain in chains:
        chain()
    return max(chains, key=_once)


def _once(chain: Callable[[], int]) -> float:
    began_s = time.process_time()
    return chain() / (time.process_time() - began_s)


def _chain(mcs: int, update: str, batch: int) -> Callable[[], int]:
    from sionna.phy.channel import AWGN
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
    from sionna.phy.mapping import BinarySource, Constellation, Demapper, Mapper

    table = mcs_table("64qam")
    order, rate = int(table.modulation_order_I[mcs]), float(table.code_rate_I[mcs])
    snr_db = float(BlockErrorLaw.of(table).threshold_db(target=0.1, bits=float(_BITS))[mcs])
    encoder = LDPC5GEncoder(_BITS, order * round(_BITS / rate / order), num_bits_per_symbol=order)
    decoder = LDPC5GDecoder(encoder, cn_update=update, num_iter=20)
    constellation = Constellation("qam", order)
    mapper, demapper = Mapper(constellation=constellation), Demapper("app", constellation=constellation)
    source, air, noise = BinarySource(), AWGN(), torch.tensor(10 ** (-snr_db / 10))

    def run() -> int:
        decoder(demapper(air(mapper(encoder(source([batch, _BITS]))), noise), noise))
        return batch

    return run
