"""The command that lets a finished run write, and that which compares what it writes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import splitfl
from experiments.cli.main import main
from tests.splitfl import toy


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    toy.chat_model(folder / "model")
    task = {"name": "sft", "data": str(toy.prompts(folder / "data.jsonl")), "packing": "pack"}
    settings = toy.table(folder, task=task, federation={"partition": "iid"})
    return splitfl.run(settings, out=folder).folder


def asked(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_prompts_are_continued_in_their_order(finished: Path) -> None:
    prompts = ("--prompt", "the server", "--prompt", "what each")
    result = asked("generate", finished, *prompts, "--max-new-tokens", "6", "--json")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["prompt"] for line in lines] == ["the server", "what each"]
    assert "prompts through the template 'chat'" in result.stderr
    again = asked("generate", finished, *prompts, "--max-new-tokens", "6")
    assert again.stdout.splitlines() == [line["text"] for line in lines]


def test_a_file_that_cannot_be_written_is_one_sentence(finished: Path, tmp_path: Path) -> None:
    result = asked("generate", finished, "--prompt", "a", "--top-p", "2")
    assert (result.exit_code, result.stderr) == (2, "Error: --top-p must be at most 1, got 2.0\n")
    result = asked("generate", tmp_path, "--prompt", "a")
    assert result.exit_code == 2
    assert "config.json" in result.stderr


def test_an_evaluation_equals_the_runs_own_and_compares_answers(finished: Path) -> None:
    pytest.importorskip("rouge_score", reason="rouge-score is not installed: pip install 'splitfl[rouge]'")
    result = asked("eval", finished, "--rouge", "--json")
    assert result.exit_code == 0, result.stderr
    measured = json.loads(result.stdout)
    final = json.loads((finished / "summary.json").read_text())["final"]
    assert measured["eval_loss"] == pytest.approx(final["eval_loss"], abs=1e-5)
    assert {"rouge1", "rouge2", "rougeL"} < measured.keys()
