"""The pages stand alone, say what was emulated, add up, and are the same each time they are written."""

import csv
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments.report import write_comparison, write_report
from experiments.report.client_table import client_rows
from experiments.report.plots import save_png
from experiments.report.story import emulation, learning
from experiments.report.tally import ClientTally, by_client, curve
from experiments.report.timeline import (
    ACTIVITIES,
    ActivitySpan,
    bounds,
    mean_shares,
    representative,
    shares,
    spans_by_round,
)
from splitfl.core.errors import ConfigError
from splitfl.core.quantities import bytes_text, flops_text, seconds_text
from splitfl.run_folder.read import read_run
from tests.quick import quick

MakeRun = Callable[..., Path]
VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Checks that every element is closed in order and that no id is given twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_stands_alone(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert not re.search(r"<script|<link|<iframe|<img|@import|\bsrc=", text)
    assert not re.search(r'(?:href="|url\()(?!#)', text)
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    assert referred <= set(page.ids)


def change_summary(folder: Path, **values: object) -> None:
    table = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**table, **values}))


@pytest.mark.slow
def test_the_report_stands_alone_and_is_the_same_each_time(make_run: MakeRun) -> None:
    folder = make_run("demo")
    path = write_report(folder)
    first = path.read_text()
    assert path == folder / "report.html"
    assert_stands_alone(first)
    assert write_report(folder).read_text() == first
    assert sorted(item.name for item in folder.iterdir()) == [
        "config.json", "environment.json", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_report_separates_measured_from_emulated_quantities(make_run: MakeRun) -> None:
    text = write_report(make_run("demo")).read_text()
    assert "3 clients and a server fine-tuned minilm, cut after block 2, on stdlib-topics" in text
    assert "The link was emulated: uplink: 10 Mbit/s, 10 ms delay, 2.0 % of the packets lost" in text
    assert "The clock was virtual" in text
    assert "splitfl run demo --set train.seed=0" in text


BURSTS = {"rate_bps": 5e6, "loss": "gilbert-elliott", "leave_good": 0.1, "leave_bad": 0.4}


@pytest.mark.parametrize(
    ("table", "settings", "words"),
    [
        ("link", {"scenario": "urban-micro"}, "one cell that all clients share, scenario urban-micro; pack"),
        ("link", {"trace": "up.csv"}, "recorded trace up.csv in both directions, for each client"),
        ("link", {"trace": "up.csv", "trace_down": "down.csv"}, "downlink: recorded trace down.csv; packets"),
        ("link", {"up": BURSTS}, "5 Mbit/s, 0 s delay, 20.0 % of the packets lost, in bursts (Gilbert-"),
        ("link", {"up": BURSTS}, "downlink: ideal, takes no time; packets of 1500 bytes."),
        ("link", {"max_tries": 3}, "packets of 1500 bytes, each sent at most 3 times."),
        ("erasure", {"activation": "mask"}, "not retransmitted, but erased: mask for the activation."),
        ("erasure", {"gradient": "stale"}, "erased: stale for the gradient (at most 1 rounds old)."),
        ("transport", {"name": "radio"}, "of the scenario ideal: losses were not drawn, but received"),
        ("codec", {"activation": "int8"}, "int8 (8-bit integers, one float32 scale per token) for the act"),
        ("analog", {"kinds": ["output"]}, "Sent as analog symbols, at a mean SNR of 10 dB: output tokens."),
        ("analog", {"sum_adapters": True, "from_cell": True}, "at the cell's mean SNR: the sum of the"),
    ],
)  # fmt: skip
def test_the_report_describes_each_link_codec_and_erasure_policy(
    make_run: MakeRun, table: str, settings: dict[str, Any], words: str
) -> None:
    folder = make_run(rounds=1, steps=1)
    config = json.loads((folder / "config.json").read_text())
    if "link" in table:
        config["link"] = {}
    config[table] = {**config[table], **settings}
    (folder / "config.json").write_text(json.dumps(config))
    assert words in " ".join(emulation(read_run(folder)))


def test_settings_of_another_version_are_not_described(make_run: MakeRun) -> None:
    folder = make_run(rounds=1, steps=1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"airwaves": {}}))
    assert "The link was emulated, with settings of another version" in " ".join(emulation(read_run(folder)))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"server_batch": 2}, "The server trained on the activations of up to 2 clients in one step."),
        (
            {"outer_optimiser": "nesterov", "outer_lr": 0.7},
            "The server took steps on outer gradients by 'nesterov' with rate 0.7.",
        ),
    ],
)
def test_the_report_says_what_the_server_did(method: dict[str, Any], said: str, make_run: MakeRun) -> None:
    folder = make_run(rounds=1, steps=1)
    config = json.loads((folder / "config.json").read_text())
    config["method"] |= method
    (folder / "config.json").write_text(json.dumps(config))
    assert said in learning(read_run(folder))


@pytest.mark.parametrize(
    ("side", "words"),
    [
        pytest.param(
            {"kind": "tinylora", "rank": 2, "trained_numbers": 13},
            "TinyLoRA of rank 2 with 13 trained numbers a module",
            marks=pytest.mark.slow,
        ),
        pytest.param({"kind": "loha"}, "LoHa of rank 8", marks=pytest.mark.slow),
        # of a run before the setting was renamed
        ({"kind": "tinylora", "trained_numbers": None, "numbers": 13}, "TinyLoRA of rank 8"),
        ({"kind": "ia3"}, "IA3"),
        ({"kind": "of-a-plugin"}, "adapters of kind of-a-plugin"),
    ],
)
def test_the_report_says_which_adapters_were_trained(
    side: dict[str, Any], words: str, make_run: MakeRun
) -> None:
    folder = make_run(rounds=1, steps=1)
    config = json.loads((folder / "config.json").read_text())
    head = config["adapter"]["head"] | side
    config["adapter"]["head"] = {name: value for name, value in head.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    said = f"Trained parameters: {words} below the cut, LoRA of rank 8 above it."
    assert said in " ".join(learning(read_run(folder)))


@pytest.mark.slow
def test_pictures_take_their_ink_from_the_page(make_run: MakeRun) -> None:
    text = write_report(make_run()).read_text()
    drawn = text[text.index("<svg") :]
    assert "var(--ink, #1b1f24)" in drawn
    assert not re.search(r"(?<!, )#1b1f24", drawn)
    assert text.count("<svg") == 7


@pytest.mark.slow
def test_text_of_a_run_is_escaped(make_run: MakeRun) -> None:
    folder = make_run("a&b")
    change_summary(folder, model="<script>alert(1)</script>", task="$x_{1$")
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"Gradient"', '"<b>$x_{1$</b>"'))
    text = write_report(folder).read_text()
    assert_stands_alone(text)
    assert "&lt;script&gt;" in text


@pytest.mark.slow
def test_the_snippet_names_the_unsplit_model_and_its_classes(make_run: MakeRun) -> None:
    folder = make_run("demo")
    adapter = folder / "adapter"
    adapter.mkdir()
    described = {"base_model_name_or_path": "some/encoder", "task_type": "SEQ_CLS"}
    (adapter / "adapter_config.json").write_text(json.dumps(described))
    tensors = {"base_model.model.classifier.weight": np.zeros((10, 4))}
    save_file(tensors, adapter / "adapter_model.safetensors")
    text = write_report(folder).read_text()
    assert "AutoModelForSequenceClassification.from_pretrained(&#34;some/encoder&#34;, num_labels=10)" in text
    assert "PeftModel.from_pretrained(model, &#34;demo/adapter&#34;)" in text


@pytest.mark.slow
def test_damaged_adapter_weights_are_named(make_run: MakeRun) -> None:
    folder = make_run("demo")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"junk")
    with pytest.raises(ConfigError, match=r"adapter_model\.safetensors is damaged"):
        write_report(folder)


@pytest.mark.slow
def test_a_language_model_is_judged_by_perplexity(make_run: MakeRun) -> None:
    folder = make_run()
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"accuracy"', '"perplexity"'))
    (folder / "adapter").mkdir()
    change_summary(folder, final={"train_loss": 3.1, "eval_loss": 3.0, "perplexity": 20.0855})
    text = write_report(folder).read_text()
    assert "held-out perplexity 20.09" in text
    assert "AutoModelForCausalLM.from_pretrained(&#34;minilm&#34;)" in text
    assert "accuracy" not in text[text.index("<body>") :]


@pytest.mark.parametrize("keep", quick([0, 1, 5, 100], 0))
def test_a_run_killed_at_any_point_has_a_report(make_run: MakeRun, keep: int) -> None:
    folder = make_run()
    (folder / "summary.json").unlink()
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(b"".join(lines[:keep]) + lines[keep][:9])
    text = write_report(folder).read_text()
    assert_stands_alone(text)
    assert "is truncated" in text
    assert "unfinished" in text
    assert "This run has no adapter" in text


def test_a_run_that_diverged_has_a_report(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    metrics = folder / "metrics.jsonl"
    metrics.write_text(re.sub(r'("(?:train_|eval_)?loss": )[0-9.]+', r"\1NaN", metrics.read_text()))
    change_summary(folder, final={"train_loss": math.nan, "eval_loss": math.inf, "accuracy": 0.1})
    assert "training nan" in write_report(folder).read_text()
    save_png(read_run(folder), tmp_path / "run.png")


@pytest.mark.slow
def test_a_run_of_unknown_surroundings_has_a_report(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "environment.json").write_text("{}")
    assert_stands_alone(write_report(folder).read_text())


@pytest.mark.slow
def test_more_clients_than_colours_are_summed_and_counted(make_run: MakeRun) -> None:
    text = write_report(make_run(clients=20, rounds=2, steps=2)).read_text()
    assert "12 of 20 clients have their own bar" in text
    assert "mean of 8 others" in text
    assert "13 others" in text


@pytest.mark.slow
def test_the_report_of_many_clients_is_small_and_a_table_has_them_all(make_run: MakeRun) -> None:
    folder = make_run(clients=400, rounds=2, steps=1)
    text = write_report(folder).read_text()
    assert len(text) < 300_000
    assert "of 400 clients" in text
    assert "95th percentile" in text
    rows = list(csv.DictReader((folder / "clients.csv").read_text().splitlines()))
    assert [int(row["client"]) for row in rows] == list(range(400))
    assert sum(int(row["bytes_up"]) for row in rows) == read_run(folder).summary.bytes_up


def test_quantiles_of_clients_are_values_that_occur() -> None:
    zeros = dict.fromkeys(ClientTally._fields, 0)
    clients = [ClientTally(**{**zeros, "client": at, "samples": at, "last_loss": None}) for at in range(201)]
    rows = client_rows(clients)
    assert [row["samples"] for row in rows.values()] == [0, 10, 100, 190, 200]
    assert [row["last_loss"] for row in rows.values()] == [None] * 5
    assert list(client_rows(clients[:2])) == ["0", "1"]


@pytest.mark.slow
def test_a_page_that_cannot_be_written_leaves_the_old_one(make_run: MakeRun) -> None:
    folder = make_run()
    with pytest.raises(ConfigError, match=r"cannot write .*missing.page\.html: No such file"):
        write_comparison([folder], folder / "missing" / "page.html")
    (folder / "taken").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write .*taken: Is a directory"):
        write_comparison([folder], folder / "taken")
    assert not [item for item in folder.iterdir() if item.name.endswith(".half")]


@pytest.mark.slow
def test_a_comparison_shows_each_run_and_the_settings_that_differ(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [make_run("few", clients=2), make_run("many", clients=5), make_run("short", rounds=2)]
    text = write_comparison(folders, tmp_path / "comparison.html").read_text()
    assert_stands_alone(text)
    assert text.count("<svg") == 4
    for word in ("few", "many", "short", "federation.clients", "federation.rounds", "held-out accuracy"):
        assert word in text
    assert "train.seed" not in text


@pytest.mark.slow
def test_runs_of_the_same_name_are_distinguished(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("here/demo")
    text = write_comparison([folder, make_run("there/demo"), folder], tmp_path / "page.html").read_text()
    for name in ("there/demo", "here/demo (1)", "here/demo (3)"):
        assert name in text


@pytest.mark.slow
def test_runs_with_different_metrics_are_compared_by_common_ones(make_run: MakeRun, tmp_path: Path) -> None:
    language = make_run("language")
    metrics = language / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"accuracy"', '"perplexity"'))
    text = write_comparison([make_run("classes"), language], tmp_path / "page.html").read_text()
    assert "compared by held-out loss" in text


def test_a_comparison_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one run folder, got none"):
        write_comparison([], tmp_path / "page.html")


@pytest.mark.slow
def test_the_picture_is_one_wide_png_and_the_same_each_time(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run())
    for name in ("a.png", "b.png"):
        save_png(run, tmp_path / name)
    picture = (tmp_path / "a.png").read_bytes()
    width_px, height_px = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert picture.startswith(b"\x89PNG")
    assert width_px > 3 * height_px
    assert picture == (tmp_path / "b.png").read_bytes()


@pytest.mark.slow
def test_a_picture_leaves_matplotlib_as_it_was(make_run: MakeRun) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_report(make_run())
    assert dict(matplotlib.rcParams) == before


def test_the_table_of_clients_adds_up_to_the_summary(make_run: MakeRun) -> None:
    run = read_run(make_run(clients=4))
    rows = by_client(run)
    assert sum(row.bytes_up for row in rows) == run.summary.bytes_up
    assert sum(row.bytes_down for row in rows) == run.summary.bytes_down
    assert sum(row.retransmissions for row in rows) == run.summary.retransmissions
    assert math.isclose(sum(row.airtime_s for row in rows), run.summary.airtime_s)
    assert curve(run, "accuracy", "bytes").xs[-1] == run.summary.bytes_up + run.summary.bytes_down
    assert all(0.01 < row.retransmission_rate < 0.02 for row in rows)


def test_the_shares_of_a_round_add_up_to_its_length(make_run: MakeRun) -> None:
    rounds = spans_by_round(read_run(make_run(clients=5)))
    for spans in rounds.values():
        start_s, finish_s = bounds(spans)
        assert math.isclose(sum(mean_shares(spans).values()), finish_s - start_s)


def test_overlapping_time_counts_once_for_the_first_activity() -> None:
    client, up, down, server, waiting = ACTIVITIES
    spans = [
        ActivitySpan(1, 4, up, 0),
        ActivitySpan(0, 2, client, 0),
        ActivitySpan(3, 6, server, 0),
        ActivitySpan(3, 5, up, 0),
    ]
    spans += [ActivitySpan(8, 9, down, 0), ActivitySpan(7, 7, server, 0)]
    assert shares(spans, 0, 10) == {client: 2, up: 3, down: 1, server: 1, waiting: 3}


def test_the_representative_round_is_neither_the_fastest_nor_the_slowest() -> None:
    rounds = {number: [ActivitySpan(0, length, "uplink", 0)] for number, length in enumerate((9.0, 2.0, 5.0))}
    assert representative(rounds) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bytes_text(0), "0 B"),
        (bytes_text(999), "999 B"),
        (bytes_text(999_999), "1.00 MB"),
        (bytes_text(12_345_678), "12.3 MB"),
        (flops_text(1.2e12), "1.20 TFLOP"),
        (seconds_text(0.0), "0 s"),
        (seconds_text(0.0123), "12.3 ms"),
        (seconds_text(59.96), "60.0 s"),
        (seconds_text(245.2), "4 min 05 s"),
        (seconds_text(3599.9), "1 h 00 min"),
        (seconds_text(math.nan), "nan s"),
    ],
)
def test_quantities_have_three_figures_and_a_unit(text: str, expected: str) -> None:
    assert text == expected
