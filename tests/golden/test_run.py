from pathlib import Path
from typing import Any

from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import play

LOSSY = {
    "mtu_bytes": 600,
    "max_tries": 2,
    "up": {"rate_bps": 1e6, "delay_s": 0.005, "loss_rate": 0.05},
    "down": {"rate_bps": 2e6, "delay_s": 0.005, "loss_rate": 0.05},
}


def test_a_short_run_of_each_kind_of_method(golden: Any, tmp_path: Path) -> None:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv")
    golden({name: summed(name, tmp_path) for name in ("sfl-v2", "frozen", "fedlora")})


def summed(method: str, folder: Path) -> dict[str, Any]:
    """A run of two clients for two rounds, over a link that loses messages."""
    played = play(Experiment.of(toy.config(folder, method={"name": method}, link=LOSSY)), folder)
    steps = played.rows("step")
    traffic = {way: vars(played.ledger.total(way)) for way in ("up", "down")}
    # A frame says losses in decimal digits, and those of a processor may be one more or fewer.
    exact = ("messages", "lost", "packets", "retransmissions")
    return {
        "turns": " ".join(f"{row['round']}.{row['client']}.{row['step']}" for row in steps),
        # Four digits: on another processor, or with another build of torch, a matrix product is
        # summed in another order and its last bits differ. On one machine they are all the same.
        "losses": " ".join(f"{row['loss']:.4g}" for row in steps),
        "finish_s": [float(f"{end.finish_s:.4g}") for end in played.ends],
        "flops": {side: played.ledger.total_flops(side) for side in ("client", "server")},
        **{way: {name: sums[name] for name in exact} for way, sums in traffic.items()},
    }
