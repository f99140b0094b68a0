"""A finished language model writes: the likeliest tokens, or others by its own probabilities and a seed."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import splitfl
from splitfl.core.errors import ConfigError
from splitfl.data.loader import tokenizer
from splitfl.evaluation.evaluate import finished_model
from splitfl.evaluation.generate import Generator, Sampling
from splitfl.setup.experiment_file import load
from tests.quick import quick
from tests.splitfl import toy


def run(folder: Path, **tables: dict[str, Any]) -> Path:
    """The folder of a short run on answers."""
    toy.chat_model(folder / "model")
    toy.prompts(folder / "data.jsonl")
    task = {"name": "sft", "data": str(folder / "data.jsonl")}
    federation = {"partition": "iid", "rounds": 1, "aggregator": "mean"}
    return splitfl.run(toy.table(folder, task=task, federation=federation, **tables), out=folder).folder


@pytest.fixture(scope="module", params=quick(["lora", "full"], "full"))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sides = {side: {"kind": request.param} for side in ("head", "body")}
    return run(tmp_path_factory.mktemp(request.param), adapter=sides)


def generator(folder: Path, **sampling: Any) -> Generator:
    return Generator(load(folder / "config.json"), folder, Sampling(max_new_tokens=8, **sampling))


@pytest.mark.slow
def test_without_chance_the_likeliest_tokens_come(finished: Path) -> None:
    config = load(finished / "config.json")
    model, where = finished_model(config, "causal-lm", finished / "adapter")
    encode = tokenizer(where)
    ids = encode("client the server [SEP] server")["input_ids"]
    begin = len(ids)
    while len(ids) < begin + 8 and ids[-1] not in (encode.eos_token_id, model.generation_config.eos_token_id):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    expected = encode.decode(ids[begin:], skip_special_tokens=True)
    assert generator(finished, temperature=0.0).continued("the server") == expected


def test_a_seed_determines_the_samples_and_leaves_torchs_generator_alone(finished: Path) -> None:
    one, other = (generator(finished, seed=seed) for seed in (1, 2))
    before = torch.random.get_rng_state()
    prompts = ["the server", "what each", "a link"]
    said = [one.continued(prompt) for prompt in prompts]
    assert said == [one.continued(prompt) for prompt in prompts]
    assert said != [other.continued(prompt) for prompt in prompts]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_narrow_nucleus_is_the_likeliest_token(finished: Path) -> None:
    likeliest = generator(finished, temperature=0.0).continued("the server")
    assert generator(finished, top_p=1e-6).continued("the server") == likeliest


def test_a_prompt_is_written_as_the_run_or_the_option_says(finished: Path) -> None:
    assert generator(finished).template == "chat"
    assert generator(finished, template="plain").template == "plain"


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"max_new_tokens": 0}, "--max-new-tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "--temperature must be at least 0.0, got -1.0"),
        ({"top_p": 0.0}, "--top-p must be above 0.0, got 0.0"),
        ({"top_p": 1.5}, "--top-p must be at most 1, got 1.5"),
        ({"template": "chta"}, "unknown --template 'chta'; did you mean 'chat'"),
    ],
)
def test_invalid_sampling_settings_are_refused(sampling: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Sampling(**sampling)


def test_a_prompt_without_room_for_an_answer_is_refused(finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be at most 0 after a prompt of 45 tokens, .* 40 positions"):
        generator(finished, template="plain").continued("the server learns what each " * 9)


def test_a_run_of_another_kind_writes_nothing(tmp_path: Path) -> None:
    config = toy.config(tmp_path, task={"name": "classification"})
    with pytest.raises(ConfigError, match=r"text comes from language models; the run in .* is of sequence-"):
        Generator(config, tmp_path, Sampling())
