"""Methods learn from prompts with completions, one a sample or packed, as the whole model does."""

import re
from pathlib import Path
from typing import Any

import pytest

from splitfl.config.plugin import key_types
from splitfl.core.errors import ConfigError
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.methods.plain import Plain

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    toy.chat_model(folder / "model")
    toy.prompts(folder / "data.jsonl")
    return folder


def experiment(place: Path, packing: str, clients: int = 1, **tables: dict[str, Any]) -> Experiment:
    task = {"name": "sft", "data": str(place / "data.jsonl"), "packing": packing, "max_length": 32}
    federation = {"clients": clients, "rounds": 2, "local_steps": 3, **tables.pop("federation", {})}
    federation |= {"partition": "iid"}
    train = {"batch_size": 2}
    return Experiment.of(toy.config(place, task=task, federation=federation, train=train, **tables))


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["truncate", "pack"])
def test_split_finetuning_on_answers_is_plain_finetuning(packing: str, place: Path, tmp_path: Path) -> None:
    site = experiment(place, packing, federation={"aggregator": "mean"})
    plain, batches = Plain(site), site.batches(0)
    plain.model.config.use_cache = False  # with a cache transformers does not keep packed texts apart
    played = play(site, tmp_path)
    assert played.losses == [plain.step(batches.batch(step)) for step in range(6)]
    assert plain.differs(played.trained) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_from_packed_answers(method: str, place: Path, tmp_path: Path) -> None:
    blocks = {"auxiliary_blocks": 1} if "auxiliary_blocks" in key_types(METHODS[method].settings) else {}
    site = experiment(place, "pack", clients=2, method={"name": method, **blocks})
    played = play(site, tmp_path)
    assert len(played.ends) == 2
    assert all(loss == loss for loss in played.losses)


def test_messages_contain_nothing_of_the_prompt_except_the_mask(place: Path, tmp_path: Path) -> None:
    site = experiment(place, "truncate")
    sent = play(site, tmp_path).said[1][2]
    assert sent.labels is not None  # type: ignore[union-attr]
    assert set(sent.context) <= {"mask"}  # type: ignore[union-attr]
    batch = site.batches(0).batch(0)
    assert int((batch.labels != -100).sum()) < int(batch.inputs["attention_mask"].sum())


@pytest.mark.parametrize(
    ("model_type", "tables", "message"),
    [
        ("llama", {"erasure": {"activation": "mask"}}, "erasure.activation must be"),
        ("opt", {}, "task.packing must be 'auto' or 'truncate' for a opt model"),
    ],
)
def test_packing_is_refused_where_texts_would_mix(
    model_type: str, tables: dict[str, Any], message: str, place: Path, tmp_path: Path
) -> None:
    toy.chat_model(tmp_path / "model", model_type)
    toy.prompts(tmp_path / "data.jsonl")
    with pytest.raises(ConfigError, match=re.escape(message)):
        experiment(tmp_path, "pack", **tables)


def test_the_data_are_described_with_their_share_in_the_loss(place: Path) -> None:
    lines = experiment(place, "pack").description().lines
    assert "60 rows, prompt from column 'prompt', completion from column 'completion'" in lines[0]
    assert re.fullmatch(
        r"\d+ tokens in \d+ texts, \d+ of them \(\d\d\.\d%\) in the loss, whole texts together in samples of "
        "up to 32",
        lines[-1],
    )
