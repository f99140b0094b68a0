"""Split supervised finetuning has the losses of trl.SFTTrainer on the unsplit model, step by step.

trl is in the extra `sft-oracle`; without it these tests are skipped.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Sampler

from splitfl.data.text_kinds import Answered, Chat
from splitfl.setup.experiment import Experiment
from tests.splitfl import tiny, toy
from tests.splitfl.driver import play

pytestmark = pytest.mark.slow

STEPS, BATCH, LR = 5, 4, 2e-3
WITHOUT_DROPOUT: dict[str, dict[str, float]] = {
    "llama": {},
    "gpt2": {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
}
"""The settings without the dropout that a model has by default: pieces are trained without."""
CASES: dict[str, dict[str, Any]] = {
    "prompts": {},
    "prompts truncated": {"max_length": 12},
    "prompts packed": {"packing": "pack", "max_length": 32},
    "prompts, loss on all": {"loss_on": "all"},
    "chats": {},
    "chats packed": {"packing": "pack"},
    "chats, loss on all": {"loss_on": "all"},
}


class InOrder(Sampler[int]):
    """The samples of our batches, in their order."""

    def __init__(self, order: list[int]) -> None:
        self._order = order

    def __iter__(self) -> Any:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
@pytest.mark.parametrize("case", CASES)
def test_the_first_five_losses_are_those_of_trl(case: str, model_type: str, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="trl is not installed: pip install 'splitfl[sft-oracle]'")
    toy.chat_model(tmp_path / "model", model_type)
    is_chat = case.startswith("chats")
    data = (toy.chats if is_chat else toy.prompts)(tmp_path / "data.jsonl")
    site = Experiment.of(
        toy.config(
            tmp_path,
            task={"name": "sft", "data": str(data), "max_length": 40, **CASES[case]},
            adapter={"head": {"kind": "full"}, "body": {"kind": "full"}},
            federation={"clients": 1, "rounds": 1, "local_steps": STEPS, "aggregator": "mean"},
            train={"batch_size": BATCH, "head_lr": LR, "body_lr": LR, "weight_decay": 0.0},
        )
    )
    ours = play(site, tmp_path).losses
    theirs = trl_losses(site, model_type, tmp_path / "trl")
    print(json.dumps({"case": case, "model": model_type, "ours": ours, "trl": theirs}))
    assert len(ours) == len(theirs) == STEPS
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=0.0, atol=1e-6)


def trl_losses(site: Experiment, model_type: str, folder: Path) -> list[float]:
    """The losses of an SFTTrainer that is given the same rows, in the order of our batches."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    settings, model_folder = site.config.task, Path(site.config.model.name)
    rows = [_row(site.task.train.texts[index]) for index in site.shares[0]]
    batches = site.batches(0)
    order = [int(index) for step in range(STEPS) for index in batches.batch(step).ids_B]

    class Trainer(SFTTrainer):
        def _get_train_sampler(self, *args: Any) -> InOrder:
            return InOrder(order)

    model = tiny.stock(model_folder, site.task.kind, **WITHOUT_DROPOUT[model_type])
    # transformers does not know GPT-2's for a loss over the next token, and counts the first label too.
    model.loss_type = "ForCausalLM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        is_chat = "messages" in rows[0]
        trainer = Trainer(
            model=model,
            args=SFTConfig(
                output_dir=str(folder),
                per_device_train_batch_size=BATCH,
                max_steps=STEPS,
                learning_rate=LR,
                lr_scheduler_type="constant",
                optim="adamw_torch",
                weight_decay=0.0,
                max_grad_norm=0.0,
                logging_steps=1,
                logging_nan_inf_filter=False,
                report_to="none",
                save_strategy="no",
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                dataloader_drop_last=False,
                disable_tqdm=True,
                max_length=settings.max_length,
                packing=site.task.packing == "pack",
                completion_only_loss=None if is_chat else settings.loss_on == "answers",
                assistant_only_loss=is_chat and settings.loss_on == "answers",
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(model_folder),
        )
        assert len(trainer.train_dataset) == batches.num_samples
        trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def _row(text: object) -> dict[str, Any]:
    if isinstance(text, Chat):
        return {"messages": [{"role": one.role, "content": one.content} for one in text.messages]}
    assert isinstance(text, Answered)
    return {"prompt": text.prompt, "completion": text.completion}
