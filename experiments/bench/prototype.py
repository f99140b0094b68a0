"""A bare split of the same mathematics: no protocol, codec, ledger or names."""

# B batch, T tokens, D hidden, V vocabulary

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.bench.interleaved import Rest
from experiments.bench.setting import Setting
from experiments.bench.unsplit import adamw, adapted_model, batches_of

Learn = Callable[[Tensor, Tensor], tuple[float, Tensor]]
"""Takes a hidden state (B, T, D) and labels (B, T); returns the loss and the hidden state's gradient."""


class Head(nn.Module):
    """GPT-2's embeddings and first blocks."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        base = adapted_model(setting).base_model.model.transformer
        self.tokens, self.positions = base.wte, base.wpe
        self.blocks = base.h[: setting.cut]

    def forward(self, ids_BT: Tensor) -> Tensor:
        positions_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        hidden_BTD = self.tokens(ids_BT) + self.positions(positions_T)
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD)
        return hidden_BTD  # type: ignore[no-any-return]


class Body(nn.Module):
    """GPT-2's other blocks, final norm and LM head, and the loss."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        model = adapted_model(setting).base_model.model
        self.blocks = model.transformer.h[setting.cut :]
        self.norm, self.head = model.transformer.ln_f, model.lm_head

    def forward(self, hidden_BTD: Tensor, labels_BT: Tensor) -> Tensor:
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD)
        logits_BTV = self.head(self.norm(hidden_BTD))
        next_BT = functional.pad(labels_BT, (0, 1), value=-100)[:, 1:]
        return functional.cross_entropy(logits_BTV.flatten(0, 1), next_BT.flatten())


class BodyTrainer:
    """The body and its optimiser."""

    def __init__(self, setting: Setting) -> None:
        self._body = Body(setting).train()
        self._optimiser = adamw(self._body, setting)
        self._device = torch.device(setting.device)

    def learn(self, hidden_BTD: Tensor, labels_BT: Tensor) -> tuple[float, Tensor]:
        """One step of the body; the loss and the hidden state's gradient."""
        hidden_BTD = hidden_BTD.to(self._device).requires_grad_(True)
        loss = self._body(hidden_BTD, labels_BT.to(self._device))
        loss.backward()
        self._optimiser.step()
        self._optimiser.zero_grad()
        assert hidden_BTD.grad is not None
        return float(loss.item()), hidden_BTD.grad


def prototype(setting: Setting, blocks: int, rest: Rest) -> None:
    """A contestant: both halves in one process."""
    trainer = BodyTrainer(setting)
    play(setting, blocks, rest, trainer.learn)


def play(setting: Setting, blocks: int, rest: Rest, learn: Learn) -> None:
    """Trains the head; `learn` trains the body, possibly in another process."""
    batches = iter(batches_of(setting, blocks * setting.steps))
    head = Head(setting).train()
    optimiser = adamw(head, setting)
    for _ in range(blocks):
        losses = []
        for batch in islice(batches, setting.steps):
            hidden_BTD = head(batch.inputs["input_ids"])
            loss, grad_BTD = learn(hidden_BTD.detach(), batch.labels)
            hidden_BTD.backward(grad_BTD)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss)
        rest(sum(losses) / len(losses))
