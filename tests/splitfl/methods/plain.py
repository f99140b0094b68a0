"""The unsplit model, finetuned in a plain loop by transformers and peft alone: what a method must equal."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from splitfl.adapters.inject import trainable
from splitfl.adapters.kind import LowRank
from splitfl.config import value_of
from splitfl.data.batch import Batch
from splitfl.models.families import family_of
from splitfl.setup.experiment import Experiment
from tests.splitfl import tiny


class Plain:
    """The stock model with LoRA of the same first values; `parameters` by their names in the model."""

    def __init__(
        self,
        site: Experiment,
        *,
        trains_head: bool = True,
        one_lr: bool = False,
        stock: PreTrainedModel | None = None,
    ) -> None:
        """`one_lr`: the head's rate for all; `stock`: the model without LoRA (default: transformers')."""
        config = site.config
        labels = site.task.num_labels
        changes = {} if labels is None else {"num_labels": labels, "problem_type": site.task.problem_type}
        stock = stock or tiny.stock(Path(config.model.name), site.task.kind, **changes)
        first = trainable(site.whole())
        names = [name.removesuffix(".lora_A.weight") for name in first if "lora_A" in name]
        ranks = {name: first[f"{name}.lora_A.weight"].shape[0] for name in names}
        alpha = config.adapter.head.of(LowRank).alpha
        assert alpha == config.adapter.body.of(LowRank).alpha
        settings = LoraConfig(
            r=1,
            lora_alpha=int(alpha),
            target_modules=names,
            rank_pattern=ranks,
            use_dora=config.adapter.head.kind == "dora",
            use_rslora=bool(value_of(config.adapter.head, "use_rslora")),
            bias=value_of(config.adapter.head, "bias") or "none",
            fan_in_fan_out=family_of(stock.config.model_type).fan_in_fan_out,
        )
        self.model = get_peft_model(stock, settings).eval()
        named = {
            name.removeprefix("base_model.model.").replace(".default", ""): value
            for name, value in self.model.named_parameters()
        }
        self.parameters = {name: named[name] for name in first}
        for name, value in self.parameters.items():
            value.requires_grad_(True)
            value.data = first[name].detach().clone()
        cut = config.partition.cut
        self.head = {n: p for n, p in self.parameters.items() if (_block(n) or 0) < cut and "lora" in n}
        self.body = {n: p for n, p in self.parameters.items() if n not in self.head}
        for value in self.head.values():
            value.requires_grad_(trains_head)
        sides = [(self.body, config.train.head_lr if one_lr else config.train.body_lr)] + [
            (self.head, config.train.head_lr)
        ] * trains_head
        groups = [{"params": list(side.values()), "lr": lr} for side, lr in sides]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=config.train.weight_decay)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of the whole model on this batch."""
        loss = self.model(**batch.inputs, labels=batch.labels).loss
        assert isinstance(loss, Tensor)
        return loss

    def step(self, batch: Batch) -> float:
        """One step of stock finetuning; the loss before it."""
        loss = self.loss(batch)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss.item()

    def differs(self, tensors: dict[str, Tensor]) -> list[str]:
        """The names of those that are not the same to the last bit."""
        return [name for name, value in tensors.items() if not torch.equal(self.parameters[name], value)]


def _block(name: str) -> int | None:
    return next((int(word) for word in name.split(".") if word.isdigit()), None)
