"""The benchmarks' arithmetic, what they refuse, and a run of each in sizes too small to mean anything."""

import io
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from rich.console import Console

from experiments.bench import suite
from experiments.bench.__main__ import main
from experiments.bench.fresh import BenchError, NotHere
from experiments.bench.interleaved import BlockTiming, Contestant, Timings, contest, cpu_s
from experiments.bench.product import Product
from experiments.bench.prototype import prototype
from experiments.bench.ratio import Figure, Target, at_least, at_most, pair_ratios
from experiments.bench.setting import Setting
from experiments.bench.unsplit import unsplit


@pytest.fixture
def tiny(tmp_path: Path) -> Setting:
    return Setting(
        folder=tmp_path / "bench",
        blocks=3,
        width=16,
        heads=2,
        vocabulary=32,
        rank=2,
        batch=2,
        tokens=8,
        steps=2,
        sweeps=2,
        is_quick=True,
    ).prepare()


def test_a_ratio_is_taken_between_neighbours_and_the_median_counts() -> None:
    ratios = pair_ratios([2.0, 30.0, 4.0], [1.0, 10.0, 4.0])
    assert ratios == (2.0, 3.0, 1.0)
    assert Figure(what="", ratios=ratios).median == 2.0


def test_a_slow_sweep_of_all_contestants_moves_no_ratio() -> None:
    assert pair_ratios([1.0, 9.0], [2.0, 18.0]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("target", "ratio", "is_met"),
    [
        (at_most(1.0), 1.0, True),
        (at_most(1.0), 1.001, False),
        (at_least(0.95), 0.95, True),
        (at_least(0.95), 0.949, False),
    ],
)
def test_a_target_gives_no_margin(target: Target, ratio: float, is_met: bool) -> None:
    assert Figure(what="", ratios=(ratio,), target=target).is_met is is_met


def test_a_figure_without_target_is_neither_met_nor_missed() -> None:
    figure = Figure(what="for information", ratios=(1.0, 2.0))
    assert figure.is_met is None
    assert figure.as_row() == {
        "what": "for information",
        "median": 1.5,
        "min": 1.0,
        "max": 2.0,
        "ratios": [1.0, 2.0],
        "target": None,
        "is_met": None,
    }


def test_blocks_of_different_sizes_are_compared_by_the_sample() -> None:
    block = BlockTiming(wall_s=6.0, cpu_s=3.0, loss=1.0)
    result = Timings({"one": [block], "two": [block]}, {"one": 3, "two": 6})
    assert (result.wall_s("one"), result.wall_s("two")) == ([2.0], [1.0])
    assert (result.cpu_s("one"), result.cpu_s("two")) == ([1.0], [0.5])


def test_cpu_time_of_a_process_is_that_of_the_kernel() -> None:
    before_s = time.process_time()
    got_s = cpu_s(psutil.Process())
    assert before_s - 0.01 <= got_s <= time.process_time() + 0.01


def test_the_table_says_which_targets_are_met() -> None:
    figures = [
        Figure(what="good", ratios=(0.97,), target=at_most(1.0)),
        Figure(what="bad", ratios=(1.2,), target=at_most(1.0)),
        Figure(what="told", ratios=(0.5,)),
    ]
    said = io.StringIO()
    Console(width=100, file=said).print(suite.table({"one-process": figures}))
    verdicts = {
        name: line
        for line in said.getvalue().splitlines()
        for name in ("good", "bad", "told")
        if name in line
    }
    assert verdicts["good"].split()[-2:] == ["1", "met"]
    assert verdicts["bad"].split()[-2:] == ["not", "met"]
    assert verdicts["told"].split()[-1] == "0.500..0.500"


def test_a_benchmark_that_lacks_something_optional_says_so_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sionna", None)
    result = CliRunner().invoke(main, ["--quick", "--only", "ldpc", "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    assert "ldpc: not run: sionna-no-rt is not installed" in result.output
    assert json.loads((tmp_path / "figures.json").read_text())["figures"] == {}


def test_an_unknown_benchmark_is_refused_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["--only", "codex"])
    assert result.exit_code == 2
    assert "did you mean 'codec'?" in result.output


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none() -> None:
    result = CliRunner().invoke(main, ["--device", "cuda"])
    assert result.exit_code == 2
    assert "on this machine, which has no CUDA" in result.output


@pytest.mark.bench
def test_unsplit_prototype_and_product_train_to_the_same_losses(tiny: Setting) -> None:
    beyond_one_epoch = replace(tiny, steps=9)
    plays = {"unsplit": unsplit, "prototype": prototype, "product": Product()}
    contestants = {name: Contestant(train=play, samples=18) for name, play in plays.items()}
    result = contest(beyond_one_epoch, contestants, print)
    for name in plays:
        assert len(result.wall_s(name)) == tiny.sweeps
        assert all(value > 0.0 for value in result.wall_s(name) + result.cpu_s(name))


@pytest.mark.bench
def test_contestants_that_train_differently_are_not_compared(tiny: Setting) -> None:
    contestants = {
        "one": Contestant(train=Product(), samples=4),
        "two": Contestant(train=Product(transport="rpc", clients=2), samples=8),
    }
    with pytest.raises(BenchError, match="two and one should train alike"):
        contest(tiny, contestants, print)


@pytest.mark.bench
def test_a_contestant_that_dies_ends_the_contest_with_its_reason(tiny: Setting) -> None:
    contestants = {"one": Contestant(train=Product(transport="inproc", clients=1000), samples=1)}
    with pytest.raises(BenchError, match=r"one failed: ConfigError: federation.clients must be at most"):
        contest(tiny, contestants, print)


@pytest.mark.bench
@pytest.mark.parametrize("name", suite.BENCHMARKS)
def test_every_benchmark_gives_figures_that_can_be_written(tiny: Setting, name: str) -> None:
    try:
        figures = suite.BENCHMARKS[name](tiny, print)
    except NotHere as reason:
        pytest.skip(str(reason))
    assert any(figure.target is not None for figure in figures)
    assert all(ratio > 0.0 for figure in figures for ratio in figure.ratios)
    json.dumps([figure.as_row() for figure in figures], allow_nan=False)
    left = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [command for command in left if "resource_tracker" not in command] == []


@pytest.mark.bench
def test_the_command_writes_figures_and_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    result = CliRunner().invoke(main, ["--quick", "--only", "codec", "--json", str(path)])
    assert result.exit_code == 0, result.output
    written = json.loads(path.read_text())
    assert list(written["figures"]) == ["codec"]
    assert {"started", "command", "git_commit", "versions", "machine", "load", "setting"} <= written.keys()
    assert written["figures"]["codec"][0]["target"] in result.output
