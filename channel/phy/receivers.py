"""Named receivers and their implementation loss: by how much more SNR they need than the block error law."""

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from channel.core.errors import BadParameter

DATA_FILE = "receivers.json"
MODEM = "splitfl-ofdm"
"""The receiver of `channel.waveform`."""
_IDEAL = "ideal"


def implementation_loss_db(receiver: str) -> float:
    """The implementation loss of a receiver, for `BlockErrorLaw.of`.

    `ideal` is the receiver of the law, `splitfl-ofdm` that of `channel.waveform`, as
    `python -m channel.fidelity` has measured it. Raises BadParameter, with the names, for another one.
    """
    names = receiver_names()
    if receiver not in names:
        raise BadParameter(f"receiver must be one of {', '.join(names)}, got {receiver!r}")
    return 0.0 if receiver == _IDEAL else float(receivers()[receiver]["implementation_loss_db"])


def receiver_names() -> tuple[str, ...]:
    """The receivers that have a known implementation loss."""
    return (_IDEAL, *receivers())


@lru_cache
def receivers() -> dict[str, Any]:
    """The parsed data file: for each receiver the loss, its provenance and the measured points."""
    found: dict[str, Any] = json.loads(files("channel.phy").joinpath(DATA_FILE).read_text(encoding="utf-8"))
    return found
