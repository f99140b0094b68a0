"""The studies of the link: what they make of runs, without running them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from channel.cell.build_cell import cell_of
from channel.scenario.load import load
from experiments.studies import codec_front, loss_sweep, token_losses, uplink_share, waveform_snr

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


@pytest.mark.parametrize("study", [loss_sweep.main, token_losses.main, uplink_share.main])
def test_a_study_has_help_with_its_options(study: Any) -> None:
    said = CliRunner().invoke(study, ["-h"])
    assert said.exit_code == 0
    assert "--out" in said.output


WAVEFORM_ROWS: list[dict[str, Any]] = [
    {"link": link, "snr_db": snr_db, "accuracy": 0.36, "bytes_up": 1_000_000, "bytes_down": 1_000_000}
    | {"airtime_s": 30.0, "seconds": 90.0, "loss_rate": 0.1, "retransmissions": 1234}
    for link, snrs_db in (("process", [None]), ("cell", [14.0, 20.0]), ("waveform", [14.0, 20.0]))
    for snr_db in snrs_db
]


def test_the_models_of_the_link_stand_side_by_side(tmp_path: Path) -> None:
    assert [model.name for model in waveform_snr.LINK_MODELS] == ["process", "cell", "waveform"]
    first, process, cell, *_ = waveform_snr.table(WAVEFORM_ROWS).splitlines()
    assert first.split() == ["link", "SNR", "accuracy", "bytes", "airtime", "seconds", "lost", "repeated"]
    assert process.split()[:2] == ["process", "36.0%"]
    assert cell.split() == [
        "cell",
        "14",
        "dB",
        "36.0%",
        "2",
        "MB",
        "30",
        "s",
        "90",
        "s",
        "10.0",
        "%",
        "1,234",
    ]
    figure = waveform_snr.draw(WAVEFORM_ROWS)
    assert [line.get_label() for line in figure.axes[0].lines] == ["process", "cell", "waveform"]
    figure.savefig(tmp_path / "waveform-snr.png")


def test_the_columns_of_a_row_come_from_the_clock_or_from_the_samples(tmp_path: Path) -> None:
    links = [{"bad": 10, "packets": 90, "retransmissions": 12, "given_up": 1}] * 2
    radio = {"airtime_s": [3.0, 1.0, 2.0], "seconds": 60.0, "slipped_s": 1.0, "links": links}
    heard = [(0, 9.0), (0, 9.0), (1, 9.0), (0, 40.0), (1, 41.0)]
    record = {"rows": [{"at": at, "time_s": time_s} for at, time_s in heard]}
    (tmp_path / "radio.json").write_text(json.dumps(record))
    summary = {"airtime_s": 10.0, "virtual_s": 8.0, "retransmissions": 1000, "radio": radio}
    process, cell, waveform = (model.row(summary, tmp_path) for model in waveform_snr.LINK_MODELS)
    assert (process["seconds"], process["airtime_s"]) == (8.0, 0.0)
    assert (cell["seconds"], cell["airtime_s"], cell["loss_rate"]) == (8.0, 10.0, 0.1)
    assert (waveform["seconds"], waveform["samples_s"], waveform["airtime_s"]) == (2.0, 60.0, 6.0)
    assert (waveform["loss_rate"], waveform["retransmissions"], waveform["given_up"]) == (20 / 180, 24, 2)


def test_the_scenario_of_the_study_has_its_mean_snr_in_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "snr.toml"
    path.write_text(waveform_snr.scenario_text(20.0), encoding="utf-8")
    models = cell_of(load(str(path))).sinr_models
    assert models["down"].mean_sinr_db(0).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)
    whole_band_db = 10.0 * math.log10(3.0)
    assert (models["up"].mean_sinr_db(0) - whole_band_db).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)


TOKEN_ROWS: list[dict[str, Any]] = [
    {"link": link, "snr_db": snr_db, "seed": seed, "accuracy": 0.5, "eval_loss": 1.25, "bytes": 2_000_000}
    | {"airtime_s": 30.0, "seconds": 90.0, "token_loss": 0.1 + 0.1 * seed, "curve": [1.3, 1.25]}
    for link, snrs_db in (("process", [None]), ("predicted", [14.0, 20.0]), ("waveform", [14.0, 20.0]))
    for snr_db in snrs_db
    for seed in (0, 1)
]


def test_token_losses_stand_side_by_side_as_means_over_seeds(tmp_path: Path) -> None:
    first, process, predicted, *_ = token_losses.table(TOKEN_ROWS).splitlines()
    assert first.split()[:4] == ["link", "SNR", "accuracy", "held-out"]
    assert process.split()[:3] == ["process", "50.0%", "1.250"]
    assert " ".join(predicted.split()) == "predicted 14 dB 50.0% 1.250 2 MB 30 s 90 s 15.0 %"
    figure = token_losses.draw(TOKEN_ROWS)
    assert [line.get_label() for line in figure.axes[0].lines] == ["predicted", "waveform"]
    assert [line.get_label() for line in figure.axes[3].lines] == ["process", "predicted", "waveform"]
    figure.savefig(tmp_path / "token-losses.png")


def test_tokens_are_counted_in_messages_that_have_them(tmp_path: Path) -> None:
    transfers = [("Activation", 101, 20), ("Gradient", 99, 0), ("Adapter", 1000, 0)]
    events = [
        {"event": "transfer", "kind": kind, "packets": packets, "lost_packets": lost}
        for kind, packets, lost in transfers
    ]
    rounds = [{"event": "round", "eval_loss": 1.5}, {"event": "round"}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in events + rounds))
    summary = {"final": {"accuracy": 0.5, "eval_loss": 1.5}, "bytes_up": 3, "bytes_down": 4}
    row = token_losses.row_of("cell", 14.0, 0, {**summary, "airtime_s": 1.0, "virtual_s": 2.0}, tmp_path)
    assert (row["token_loss"], row["bytes"], row["curve"]) == (0.1, 7, [1.5])


def codec_run(chain: str, seed: int, accuracy: list[float], sent: list[float]) -> dict[str, Any]:
    full = {"formula_bytes": 4100} if chain == codec_front.SPLITLORA else {}
    return {"chain": chain, "seed": seed, "accuracy": accuracy, "bytes": sent, **full}


CODEC_RUNS = [
    *(codec_run(codec_front.SPLITLORA, seed, [0.7, 0.8], [2e3, 4e3]) for seed in (0, 1)),
    *(codec_run(codec_front.PLAIN, seed, [0.6, 0.8], [1e3, 2e3]) for seed in (0, 1)),
    codec_run("int8", 0, [0.79, 0.79], [250.0, 500.0]),
    codec_run("int8", 1, [0.70, 0.81], [250.0, 500.0]),
    *(codec_run("topk", seed, [0.5, 0.7], [10.0, 20.0]) for seed in (0, 1)),
    *(codec_run("int4", seed, [0.4, 0.6], [125.0, 250.0]) for seed in (0, 1)),
]


def test_codecs_are_compared_at_their_bytes_to_the_target() -> None:
    rows = {row["chain"]: row for row in codec_front.summarised(CODEC_RUNS)}
    assert rows["int8"]["target"] == pytest.approx(0.79, abs=1e-9)
    assert rows["int8"]["to_target"] == 375.0  # after one round of a seed, and two of the other
    assert rows["int8"]["fewer"] == pytest.approx(4000 / 375)
    assert rows["topk"]["to_target"] is None
    best = codec_front.front(list(rows.values()))
    assert [row["chain"] for row in best] == ["topk", "int8"]


def test_codecs_are_set_for_what_a_method_sends() -> None:
    assert codec_front.codecs_of("frozen", "int8") == {"codec.activation": "int8"}
    assert set(codec_front.codecs_of("sfl-v2", "none")) == {"codec.activation", "codec.gradient"}
    assert set(codec_front.codecs_of("sfl-v2", "int8")) == {
        f"codec.{kind}" for kind in ("activation", "gradient", "adapter_up", "adapter_down")
    }


def test_the_table_and_the_picture_have_every_chain(tmp_path: Path) -> None:
    rows = codec_front.summarised(CODEC_RUNS)
    lines = codec_front.table(rows).splitlines()
    assert [line.split()[0] for line in lines[1:6]] == ["SplitLoRA", "none", "int8", "topk", "int4"]
    assert lines[4].split()[-1] == "missed"
    assert lines[6] == "SplitLoRA by formula: 4.10 kB"
    (axes,) = codec_front.draw(rows).axes
    assert {text.get_text() for text in axes.texts} == {row["chain"] for row in rows}
