"""The unsplit model, fine-tuned with stock transformers and peft."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from experiments.bench.interleaved import Rest
from experiments.bench.setting import Setting
from splitfl.data.batch import Batch
from splitfl.setup.experiment import Experiment


def unsplit(setting: Setting, blocks: int, rest: Rest) -> None:
    """A contestant: the unsplit model in one process."""
    batches = iter(batches_of(setting, blocks * setting.steps))
    model = adapted_model(setting).train()
    optimiser = adamw(model, setting)
    for _ in range(blocks):
        losses = [train_step(model, optimiser, next(batches)) for _ in range(setting.steps)]
        rest(sum(losses) / len(losses))


def train_step(model: Any, optimiser: torch.optim.Optimizer, batch: Batch) -> float:
    """Forward, backward and optimiser step; returns the loss."""
    loss = model(**batch.inputs, labels=batch.labels).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.item())


def adapted_model(setting: Setting) -> Any:
    """The stock model with peft's LoRA, at the initial adapter of all contestants."""
    model = AutoModelForCausalLM.from_pretrained(setting.model, dtype=torch.float32)
    model.config.use_cache = False  # no generation, so the baseline needs no cache
    lora = LoraConfig(
        r=setting.rank, lora_alpha=16, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, lora)
    set_peft_model_state_dict(adapted, load_file(setting.start / "adapter_model.safetensors"))
    return adapted.to(setting.device)


def adamw(module: torch.nn.Module, setting: Setting) -> torch.optim.AdamW:
    """AdamW over this module's trainable parameters."""
    trained = [value for value in module.parameters() if value.requires_grad]
    return torch.optim.AdamW(trained, lr=setting.lr, weight_decay=0.0)


def batches_of(setting: Setting, steps: int) -> list[Batch]:
    """The first `steps` batches of a single client, in the product's order, precomputed."""
    batches = Experiment.of(setting.config(rounds=1)).batches(0)
    return [batches.batch(step).to(torch.device(setting.device)) for step in range(steps)]
