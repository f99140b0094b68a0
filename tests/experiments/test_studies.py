"""The studies of the link: what they make of runs, without running them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from experiments.studies import loss_sweep, uplink_share

ROWS: list[dict[str, Any]] = [
    {
        "policy": policy,
        "loss_rate": loss_rate,
        "seed": seed,
        "accuracy": 0.5 + 0.1 * seed - loss_rate / 2,
        "eval_loss": 1.0 + loss_rate,
        "train_loss": 1.0,
        "virtual_s": 30.0,
    }
    for policy in loss_sweep.POLICIES
    for loss_rate in loss_sweep.LOSS_RATES
    for seed in (0, 1)
]


def test_the_table_has_the_means_over_seeds() -> None:
    lines = loss_sweep.table(ROWS).splitlines()
    assert len(lines) == 1 + len(loss_sweep.LOSS_RATES)
    assert lines[0].split() == ["loss", *loss_sweep.POLICIES]
    assert lines[-1].split()[:5] == ["60%", "25.0%", "1.600", "30", "s"]


def test_the_picture_has_a_line_for_every_meaning(tmp_path: Path) -> None:
    figure = loss_sweep.draw(ROWS)
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == list(loss_sweep.POLICIES)
    figure.savefig(tmp_path / "sweep.png")


def test_the_shares_of_a_round_add_up(tmp_path: Path) -> None:
    rows = [
        {"event": "transfer", "direction": "up", "client": 0, "start_s": 1.0, "finish_s": 3.0},
        {"event": "transfer", "direction": "up", "client": 1, "start_s": 0.0, "finish_s": 4.0},
        {"event": "transfer", "direction": "down", "client": 1, "start_s": 9.0, "finish_s": 11.0},
        {"event": "compute", "side": "client", "client": 0, "start_s": 0.0, "finish_s": 1.0},
        {"event": "compute", "side": "server", "client": 0, "start_s": 3.0, "finish_s": 5.0},
        {"event": "round", "round": 0, "finish_s": 10.0},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shares = uplink_share.shares_of(path, 2)
    expected = {"round_s": 10.0, "up": 0.3, "down": 0.05, "client": 0.05, "waiting": 0.6}
    assert shares == pytest.approx(expected)
    assert uplink_share.mean_of([shares, {**shares, "up": 0.5}])["up"] == pytest.approx(0.4)
    assert uplink_share.table({"lab-wifi": shares}).splitlines()[1].split()[:4] == [
        "lab-wifi",
        "10",
        "s",
        "30.0",
    ]


@pytest.mark.parametrize("study", [loss_sweep.main, uplink_share.main])
def test_a_study_has_help_with_its_options(study: Any) -> None:
    said = CliRunner().invoke(study, ["-h"])
    assert said.exit_code == 0
    assert "--out" in said.output
