"""A step of the body on several clients' activations is the unsplit model's step on all of their samples."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from splitfl.adapters.inject import trainable
from splitfl.core.errors import WireError
from splitfl.core.messages import Activation, Gradient
from splitfl.data.batch import Batch
from splitfl.methods.parts.body_batch import BodyBatch, joined
from splitfl.methods.parts.label_counts import label_counts
from splitfl.methods.parts.method import BatchServer, ServerReply, Turn
from splitfl.methods.parts.server_model import BodyStep
from splitfl.methods.registry import METHODS
from splitfl.models.cut import Piece
from splitfl.models.families import CAUSAL_LM, SEQ2SEQ_LM, SEQUENCE_CLASSIFICATION
from splitfl.models.token_rows import pack, unpack
from splitfl.setup.experiment import Experiment
from tests.quick import quick
from tests.splitfl import tiny, toy

CASES = [("bert", SEQUENCE_CLASSIFICATION), ("gpt2", CAUSAL_LM), ("llama", CAUSAL_LM)]


def site_of(folder: Path, model_type: str, kind: str, *, words: int = 0, **tables: Any) -> Experiment:
    """Two clients with texts of so many words (0: of different lengths)."""
    task: dict[str, Any] = {}
    if kind == SEQ2SEQ_LM:
        toy.answer_model(folder / "model", model_type)
        task = {"name": "seq2seq", "data": str(toy.prompts(folder / "data.jsonl", rows=30))}
    else:
        toy.model(folder / "model", model_type, kind)
        texts = [toy.said(row, words or 1 + row % 13) for row in range(60)]
        lines = [f"{text}\t{toy.LABELS[row % 2]}" for row, text in enumerate(texts)]
        (folder / "data.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
        task = {"name": "lm", "packing": "truncate", "ignore_columns": ["label"]} if kind == CAUSAL_LM else {}
    averaged = {} if tables.get("method") == {"name": "frozen", "server_batch": 2} else {"aggregator": "mean"}
    federation = {"clients": 2, "partition": "iid", **averaged}
    tables = {"method": {"server_batch": 2}, "train": {"batch_size": 2}, **tables}
    return Experiment.of(toy.config(folder, task=task, federation=federation, **tables))


def unequal(site: Experiment) -> list[Batch]:
    """A batch of each client, with different lengths."""
    each = [[own.batch(step) for step in range(len(own))] for own in (site.batches(0), site.batches(1))]
    return list(next(pair for pair in product(*each) if pair[0].shape != pair[1].shape))


def sent(site: Experiment, batches: Sequence[Batch]) -> tuple[list[Turn], list[Activation]]:
    """The clients' activations of these batches, and their turns."""
    head = site.pieces(site.config.client).head()
    messages = []
    for batch in batches:
        context = head.context_of(batch.inputs)
        with torch.no_grad():
            hidden = pack(head(batch.inputs, {}), context.get("mask"))
        messages.append(Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels))
    turns = [Turn(client=at, round=0, lap=1, position=3 + at) for at in range(len(batches))]
    return turns, messages


def together(tensors: Sequence[Tensor], value: int) -> Tensor:
    """(B, T) of all samples, padded on the right."""
    if tensors[0].ndim == 1:
        return torch.cat(list(tensors))
    width = max(one.shape[1] for one in tensors)
    return torch.cat([pad(one, (0, width - one.shape[1]), value=value) for one in tensors])


def inputs_of(batches: Sequence[Batch]) -> tuple[dict[str, Tensor], Tensor]:
    """The samples of all batches as one batch of the unsplit model."""
    fill = {"input_ids": tiny.PADDING}
    inputs = {
        name: together([one.inputs[name] for one in batches], fill.get(name, 0)) for name in batches[0].inputs
    }
    return inputs, together([one.labels for one in batches], -100)


def answered(site: Experiment, turns: Sequence[Turn], messages: Sequence[Activation]) -> list[ServerReply]:
    server = site.server_method()
    assert isinstance(server, BatchServer)
    return server.compute_batch(turns, messages)


def whole_step(site: Experiment, batches: Sequence[Batch]) -> tuple[float, dict[str, Tensor | None]]:
    """The unsplit model's loss on all samples, and its gradients of the body's tensors."""
    whole = site.whole()
    inputs, labels = inputs_of(batches)
    loss = whole(inputs, {}, labels).loss
    loss.backward()
    body = trainable(site.pieces(site.config.server).body())
    return loss.item(), {name: value.grad for name, value in trainable(whole).items() if name in body}


@pytest.mark.parametrize(("model_type", "kind"), quick(CASES, CASES[0]))
def test_clients_with_equal_lengths_take_the_step_of_the_unsplit_model(
    model_type: str, kind: str, tmp_path: Path
) -> None:
    site = site_of(tmp_path, model_type, kind, words=8)
    batches = [site.batches(client).batch(0) for client in range(2)]
    step = step_of(answered(site, *sent(site, batches)))
    loss, grads = whole_step(site, batches)
    assert step.loss == loss
    assert len(step.grads) == len(grads)
    for name, own in zip(grads, step.grads, strict=True):
        assert own is not None
        assert torch.equal(own, grads[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "kind"), [*CASES, ("t5", SEQ2SEQ_LM)])
def test_clients_with_other_lengths_differ_from_the_unsplit_model_by_rounding(
    model_type: str, kind: str, tmp_path: Path
) -> None:
    """Each head computed its client's samples, padded to their own length: gradients differ by up to 4e-7."""
    site = site_of(tmp_path, model_type, kind)
    batches = unequal(site)
    step = step_of(answered(site, *sent(site, batches)))
    loss, grads = whole_step(site, batches)
    assert step.loss == pytest.approx(loss, rel=1e-6)
    for name, own in zip(grads, step.grads, strict=True):
        torch.testing.assert_close(own, grads[name], rtol=1e-5, atol=2e-6 * float(own.abs().max()))


def step_of(replies: Sequence[ServerReply]) -> BodyStep:
    """The step of the body, which the last reply has."""
    assert [one.change for one in replies[:-1]] == [None] * (len(replies) - 1)
    step = replies[-1].change
    assert isinstance(step, BodyStep)
    return step


@pytest.mark.slow
def test_each_client_receives_the_gradient_of_its_own_mean_loss(tmp_path: Path) -> None:
    """That is n / n_i times its rows of the gradient of the joint loss."""
    site = site_of(tmp_path, "gpt2", CAUSAL_LM)
    turns, messages = sent(site, unequal(site))
    body = site.pieces(site.config.server).body()
    alone = [unpacked(message) for message in messages]
    counts = [int(label_counts(one.labels, CAUSAL_LM).sum()) for one in messages]
    own_BTDs = grad_of(body, joined(alone)).split([len(one.labels) for one in alone])
    for at, reply in enumerate(answered(site, turns, messages)):
        assert isinstance(reply.reply, Gradient)
        own_BTD = own_BTDs[at][:, : alone[at].hidden_BTD.shape[1]] * (sum(counts) / counts[at])
        mask = messages[at].context.get("mask")
        assert torch.equal(reply.reply.grad, pack(own_BTD, mask))
        expected = pack(grad_of(body, alone[at]), mask)
        torch.testing.assert_close(
            reply.reply.grad, expected, rtol=0, atol=5e-6 * float(expected.abs().max())
        )


@pytest.mark.slow
def test_a_client_without_labels_adds_nothing(tmp_path: Path) -> None:
    site = site_of(tmp_path, "gpt2", CAUSAL_LM, words=8)
    turns, messages = sent(site, [site.batches(client).batch(0) for client in range(2)])
    labels = messages[0].labels
    assert labels is not None
    messages[0] = replace(messages[0], labels=torch.full_like(labels, -100))
    none, other = answered(site, turns, messages)
    assert isinstance(none.reply, Gradient)
    assert not none.reply.grad.any()
    assert none.losses == other.losses
    assert other.losses[0] == pytest.approx(grad_free_loss(site, messages[1]), rel=1e-6)


def grad_free_loss(site: Experiment, message: Activation) -> float:
    """The body's mean loss on one client's activations."""
    batch, body = unpacked(message), site.pieces(site.config.server).body()
    with torch.no_grad():
        return float(body(batch.hidden_BTD, batch.context, batch.labels).loss)


def unpacked(message: Activation) -> BodyBatch:
    assert message.hidden is not None
    assert message.labels is not None
    hidden_BTD = unpack(message.hidden, message.context.get("mask"))
    return BodyBatch(hidden_BTD=hidden_BTD, context=message.context, labels=message.labels)


def grad_of(body: Piece, batch: BodyBatch) -> Tensor:
    """The gradient of the mean loss with respect to the hidden states."""
    hidden_BTD = batch.hidden_BTD.detach().requires_grad_()
    loss = body(hidden_BTD, batch.context, batch.labels).loss
    return torch.autograd.grad(loss, hidden_BTD)[0]


def test_flops_are_shared_by_samples(tmp_path: Path) -> None:
    site = site_of(tmp_path, "bert", SEQUENCE_CLASSIFICATION)
    replies = answered(site, *sent(site, unequal(site)))
    assert sum(one.flops for one in replies) == step_of(replies).flops
    assert replies[0].flops / replies[0].samples == replies[1].flops / replies[1].samples


BATCHING = [name for name, one in METHODS.items() if one.server_batch is True]


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHING)
def test_a_batch_of_one_client_is_its_own_step(name: str, tmp_path: Path) -> None:
    site = site_of(tmp_path, "bert", SEQUENCE_CLASSIFICATION, method={"name": name, "server_batch": 2})
    turns, messages = sent(site, [site.batches(0).batch(0)])
    alone, batch = site.server_method().compute(turns[0], messages[0]), answered(site, turns, messages)[0]
    assert (alone.losses, alone.flops) == (batch.losses, batch.flops)
    assert [*map(type, (alone.reply, alone.change))] == [*map(type, (batch.reply, batch.change))]


def test_activations_with_other_context_are_not_joined() -> None:
    plain, packed = batch_of(2), batch_of(2, positions=torch.zeros(1, 2))
    with pytest.raises(WireError, match=r"same context, got \['positions'\] and \[\]"):
        joined([plain, packed])


def test_joined_batches_are_padded_on_the_right() -> None:
    short = batch_of(2, positions=torch.tensor([[0, 1]]), last=torch.tensor([1]))
    longer = batch_of(4, positions=torch.tensor([[0, 1, 0, 1]]), last=torch.tensor([3]))
    batch = joined([short, longer])
    assert batch.hidden_BTD.sum(2).tolist() == [[3, 3, 0, 0], [3, 3, 3, 3]]
    assert batch.context["mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch.context["positions"].tolist() == [[0, 1, 0, 0], [0, 1, 0, 1]]
    assert batch.context["last"].tolist() == [1, 3]
    assert batch.labels.tolist() == [[7, 7, -100, -100], [7, 7, 7, 7]]
    assert "mask" not in joined([longer, longer]).context


def batch_of(tokens: int, **context: Tensor) -> BodyBatch:
    """One sample of so many tokens."""
    labels = torch.full((1, tokens), 7)
    return BodyBatch(hidden_BTD=torch.ones(1, tokens, 3), context=context, labels=labels)
