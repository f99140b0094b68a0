"""Code blocks per second: the cell with its block error model, against Sionna's simulation of the LDPC code.

The cell is that of the benchmark `cell`: fading, interference, scheduling, link adaptation and HARQ for a
hundred users. Sionna's chain (LDPC encoder, QAM mapper, white noise, demapper, decoder of 20 iterations)
processes code blocks that the cell sent: a sample of its first transmissions, each with its own MCS and
length, at the SNR of 10 % block error rate, with the fastest decoder and batch size. The number of code
blocks per transport block is counted separately and not timed. CPU time of one thread on both sides.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Self

import torch

from channel.cell.backlog import Backlog
from channel.cell.blocks import IntArray, Transmissions
from channel.cell.build_cell import cell_of
from channel.cell.mac import Mac
from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.core.rng import stream
from channel.phy.block_error import BlockErrorLaw
from channel.phy.mcs import mcs_table
from channel.propagation.directions import BothDirections
from channel.scenario.load import Scenario
from experiments.bench.cell import USERS
from experiments.bench.cell_clock import many_users, one_thread, timed
from experiments.bench.fresh import Fresh, Hand, NotHere
from experiments.bench.ratio import Figure, at_least, pair_ratios
from experiments.bench.setting import Setting

_DRAWN = 8
_SLOWEST_RATE = 0.2
"""Sionna's encoder has no lower code rates; code blocks below it are not drawn."""
_UPDATES = ("boxplus-phi", "minsum")
_BATCHES = (8, 32)
_EACH = 32
"""Code blocks of each kind in one measurement, a multiple of every batch size."""
_CELL_S = 1.0
_DECISIONS = 2_000_000


def ldpc(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """The cell's and the error model's blocks per second over Sionna's. Raises NotHere without Sionna."""
    if find_spec("sionna") is None:
        raise NotHere("sionna-no-rt is not installed: pip install 'splitfl[oracle]'")
    progress("Sionna's chain and the cell in turn")
    with one_thread(), Fresh(setting.folder / "ldpc.log", _time, setting.sweeps) as process:
        rows: list[tuple[float, float, float, float]] = process.take()
        process.go()
    chain, cell, each, law = zip(*rows, strict=True)
    code = [rate * count for rate, count in zip(cell, each, strict=True)]
    figures = [
        Figure(
            what=f"code blocks/s, cell of {USERS} users / Sionna's LDPC chain",
            ratios=pair_ratios(code, chain),
            target=at_least(1000.0),
        ),
        Figure(what="the same, a transport block counted once", ratios=pair_ratios(cell, chain)),
    ]
    if not setting.is_quick:
        figures.append(
            Figure(what="the error model alone / Sionna's LDPC chain", ratios=pair_ratios(law, chain))
        )
    return figures


def _time(hand: Hand, sweeps: int) -> None:
    """Sends a row per sweep: code blocks/s of Sionna's chain, transport blocks/s of the cell, code blocks
    per transport block, and code blocks/s of the error model alone."""
    torch.set_num_threads(1)
    made = many_users(USERS)
    with torch.no_grad():
        code = _CodeBlocks.of(made)
        chains = [_best_chain(mcs, bits) for mcs, bits in code.drawn(_DRAWN)]
        hand([(_chain_rate(chains), _cell_rate(made), code.mean_count, _law_rate()) for _ in range(sweeps)])


@dataclass(frozen=True, eq=False)
class _CodeBlocks:
    """First transmissions of a cell: MCS, number of code blocks and bits per code block of each."""

    scheme_T: IntArray
    count_T: Array
    bits_T: Array

    @classmethod
    def of(cls, made: Scenario) -> Self:
        cell = cell_of(made)
        backlog = Backlog(len(DIRECTIONS) * cell.users, memory_grants=cell.parameters.memory_grants)
        backlog.left_Q[:-1] = math.inf
        mac = Mac(cell.parameters, BothDirections(sinr_models=cell.sinr_models, seed=cell.seed), backlog)
        grants = round(_CELL_S / cell.parameters.grant_s)
        blocks = Transmissions.joined(list(mac.tries(0, grants))).blocks
        first = blocks.tries_T == 0
        scheme_T, groups_T = blocks.scheme_T[first], blocks.groups_T[first]
        count_T, bits_T = cell.parameters.code_IN2[scheme_T, groups_T].T
        return cls(scheme_T=scheme_T, count_T=count_T, bits_T=bits_T)

    @property
    def mean_count(self) -> float:
        """Mean number of code blocks in a transport block."""
        return float(self.count_T.mean())

    def drawn(self, count: int) -> list[tuple[int, int]]:
        """MCS and bits of `count` code blocks, drawn uniformly from all."""
        is_known = mcs_table("64qam").code_rate_I[self.scheme_T] >= _SLOWEST_RATE
        chance_T = self.count_T * is_known
        at = stream(0, "code-blocks").choice(self.count_T.size, count, p=chance_T / chance_T.sum())
        return list(zip(self.scheme_T[at].tolist(), self.bits_T[at].astype(int).tolist(), strict=True))


def _chain_rate(chains: list[Callable[[], int]]) -> float:
    began_s, blocks = time.process_time(), 0
    for chain in chains:
        done = 0
        while done < _EACH:
            done += chain()
        blocks += done
    return blocks / (time.process_time() - began_s)


def _cell_rate(made: Scenario) -> float:
    blocks, spent_s = timed(made, _CELL_S)
    return blocks / spent_s


def _law_rate() -> float:
    """Blocks per second of the error model alone, each with its own MCS and SNR."""
    rng, law = stream(0, "law"), BlockErrorLaw.of(mcs_table("64qam"))
    snr_db, scheme = rng.normal(8.0, 6.0, _DECISIONS), rng.integers(0, 29, _DECISIONS)
    began_s = time.process_time()
    failed = rng.random(_DECISIONS) < law.code_block(scheme, snr_db, 1000.0)
    return failed.size / (time.process_time() - began_s)


def _best_chain(mcs: int, bits: int) -> Callable[[], int]:
    """Sionna's chain for these code blocks, with the fastest check-node update and batch size."""
    chains = [_chain(mcs, bits, update, batch) for update in _UPDATES for batch in _BATCHES]
    for chain in chains:
        chain()
    return max(chains, key=_once)


def _once(chain: Callable[[], int]) -> float:
    began_s = time.process_time()
    return chain() / (time.process_time() - began_s)


def _chain(mcs: int, bits: int, update: str, batch: int) -> Callable[[], int]:
    from sionna.phy.channel import AWGN
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
    from sionna.phy.mapping import BinarySource, Constellation, Demapper, Mapper

    table = mcs_table("64qam")
    order, rate = int(table.modulation_order_I[mcs]), float(table.code_rate_I[mcs])
    snr_db = float(BlockErrorLaw.of(table).threshold_db(target=0.1, bits=float(bits))[mcs])
    encoder = LDPC5GEncoder(bits, order * round(bits / rate / order), num_bits_per_symbol=order)
    decoder = LDPC5GDecoder(encoder, cn_update=update, num_iter=20)
    constellation = Constellation("qam", order)
    mapper, demapper = Mapper(constellation=constellation), Demapper("app", constellation=constellation)
    source, awgn, noise = BinarySource(), AWGN(), torch.tensor(10 ** (-snr_db / 10))

    def run() -> int:
        decoder(demapper(awgn(mapper(encoder(source([batch, bits]))), noise), noise))
        return batch

    return run
