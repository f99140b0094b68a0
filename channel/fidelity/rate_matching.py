"""`python -m channel.fidelity.rate_matching`: the codes of packets by an ideal receiver, as they are sent.

The code blocks of a packet fill its last OFDM symbol, so that their code rate is below that of the MCS table,
to which the block error law belongs.
"""

from dataclasses import dataclass

import click

from channel.calibration.simulation import CHUNK, BlerCurve, chunk_failures
from channel.coding.code import Code
from channel.fidelity.comparison import law_at_db
from channel.fidelity.packets import PACKET_BYTES, Measured, PacketPoint, code_blocks
from channel.phy.receivers import MODEM, receivers
from channel.waveform.header import PayloadFormat
from channel.waveform.layout import MCS_TABLE, layout_of
from channel.waveform.numerology import SMALLEST


@dataclass(frozen=True, kw_only=True)
class RateRow:
    """Code rates of the table and as sent, and SNRs in decibels at which one packet in ten is lost.

    `law_db` by the block error law; `table_db` and `sent_db` by simulating the code at either rate with exact
    demapping in white noise; `modem_db` as measured.
    """

    mcs: int
    table_rate: float
    sent_rate: float
    law_db: float
    table_db: float
    sent_db: float
    modem_db: float


def rate_row(mcs: int, *, chunks: int, seed: int = 0) -> RateRow:
    """The row of a scheme, from `chunks` x 250 code blocks at each SNR."""
    order, rate = int(MCS_TABLE.modulation_order_I[mcs]), float(MCS_TABLE.code_rate_I[mcs])
    sent, (_, bits) = layout_of(PayloadFormat(mcs, 0, PACKET_BYTES), SMALLEST).code, code_blocks(mcs)
    table = Code.of(modulation_order=order, code_rate=rate, bits=bits)
    (measured,) = (row for row in receivers()[MODEM]["ten_percent"] if row["mcs"] == mcs)
    return RateRow(
        mcs=mcs,
        table_rate=rate,
        sent_rate=bits / sent.sent_E.size,
        law_db=law_at_db(mcs),
        table_db=_ideal_at_db(mcs, table, chunks, seed),
        sent_db=_ideal_at_db(mcs, sent, chunks, seed),
        modem_db=measured["flat_db"],
    )


def _ideal_at_db(mcs: int, code: Code, chunks: int, seed: int) -> float:
    curve = BlerCurve(code.modulation_order, round(1024.0 * code.bits / code.sent_E.size, 2), code.bits)
    blocks, tried = code_blocks(mcs)[0], chunks * CHUNK

    def point(snr_db: float) -> PacketPoint:
        failed = sum(chunk_failures(curve, code, snr_db, seed=seed, chunk=chunk) for chunk in range(chunks))
        lost = round(tried * (1.0 - (1.0 - failed / tried) ** blocks))
        return PacketPoint(mcs=mcs, snr_db=snr_db, packets=tried, lost=lost, unheard=0)

    return Measured.of(law_at_db(mcs), point).at_db


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mcs", "schemes", default="9,16,19,25,26,27,28", show_default=True)
@click.option("--chunks", type=click.IntRange(min=1), default=4, show_default=True, help="Of 250 blocks.")
def main(schemes: str, chunks: int) -> None:
    """Simulate the codes of packets of 1,400 bytes in white noise, with an ideal receiver."""
    click.echo("| MCS | rate | rate as sent | law | simulated at rate | as sent | modem | its loss |")
    click.echo("|---|---|---|---|---|---|---|---|")
    for mcs in map(int, schemes.split(",")):
        row = rate_row(mcs, chunks=chunks)
        levels = " | ".join(f"{one:.2f}" for one in (row.law_db, row.table_db, row.sent_db, row.modem_db))
        loss_db = row.modem_db - row.sent_db
        click.echo(f"| {mcs} | {row.table_rate:.4f} | {row.sent_rate:.4f} | {levels} | {loss_db:.2f} |")


if __name__ == "__main__":
    main(prog_name="python -m channel.fidelity.rate_matching")
