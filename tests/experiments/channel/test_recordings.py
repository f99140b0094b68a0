"""Whoever starts a run over a recorded link sees what was read in it."""

from dataclasses import replace
from pathlib import Path

from experiments.channel.recordings import link_lines
from splitfl.config import LinkConfig, RunConfig


def test_every_recording_of_a_run_has_a_line(tmp_path: Path) -> None:
    up, down = tmp_path / "lte.csv", tmp_path / "lte.down"
    up.write_text("time_s,rate_bps,delay_s,loss_rate,rsrp\n0,20e6,0.01,0,-90\n1,10e6,0.03,0.02,-90\n")
    down.write_text("1\n2\n")
    config = replace(RunConfig(), link=LinkConfig(trace=str(up), trace_down=str(down)))
    assert link_lines(RunConfig()) == []
    said = link_lines(config)
    assert said[0].startswith(f"link.trace {up}: 2 rows over 1 s, median rate 15 Mbit/s, median delay 20 ms")
    assert said[0].endswith("columns not read: rsrp")
    assert said[1].startswith(
        f"link.trace_down {down}: 2 opportunities of 1500 bytes over 0.002 s, mean rate 12 M"
    )
