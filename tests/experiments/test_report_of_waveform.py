"""What a report says and draws of a waveform, of records of earlier versions too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.live.radio_figures import RECORD, totals
from experiments.report import waveform
from experiments.report.story import emulation
from experiments.screen import summary_table
from splitfl.run_folder.read import read_run
from tests.experiments.live.test_radio_run import MEASURED

MakeRun = Callable[..., Path]


def with_record(folder: Path, measured: dict[str, Any]) -> dict[str, Any]:
    """Adds this record to a run; returns its summary."""
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    summary["radio"] = totals(measured)
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / RECORD).write_text(json.dumps(measured))
    return summary


def test_a_record_of_an_earlier_version_is_named_and_has_no_pictures_of_what_it_lacks(
    make_run: MakeRun,
) -> None:
    folder = make_run("demo")
    with_record(folder, MEASURED)
    run = read_run(folder)
    assert waveform.spectrum(run, 600.0) == waveform.channel(run, 600.0) == ""
    assert (
        "radio.json was written by an earlier version, which kept no spectrum and no channel over time."
        in emulation(run)
    )


def test_of_an_air_in_another_process_the_slips_are_not_known(make_run: MakeRun) -> None:
    air = {"rate_hz": 1e6, "seconds": 3.0, "wall_s": 4.0}
    folder = make_run("demo")
    summary = with_record(folder, {**MEASURED, "air": air})
    said = emulation(read_run(folder))
    sentence = "3 s of samples took 4 s; whether its clock slipped is said by the air, in its own process."
    assert sentence in said
    assert "slipped_s" not in summary["radio"]
    assert summary_table(summary, folder).row_count > 0


def test_samples_that_pass_only_with_messages_are_not_called_late(make_run: MakeRun) -> None:
    air = {"rate_hz": 1e6, "seconds": 3.0}
    nodes = [{**node, "spectrum": {"row_s": 0.05, "power_db": []}} for node in MEASURED["nodes"]]
    folder = make_run("demo")
    summary = with_record(folder, {**MEASURED, "air": air, "nodes": nodes})
    said = emulation(read_run(folder))
    assert "Samples passed only while there was a message: 3 s in all." in said
    assert not any("real time" in one or "earlier version" in one for one in said)
    assert "wall_s" not in summary["radio"]
    assert summary_table(summary, folder).row_count > 0
