"""What lost rows mean: exactly what the policies say, and unbiased where they say so."""

# B batch, T tokens, D hidden, N rows

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from splitfl.core.messages import Activation, Gradient
from splitfl.models.families import CAUSAL_LM, SEQUENCE_CLASSIFICATION
from splitfl.wire.erasure import (
    ReceivedActivation,
    gradient_of_sent,
    rows,
    scale_of,
    with_rows,
    without_samples,
    without_tokens,
    zeroed,
)
from splitfl.wire.stale_cache import StaleCache
from tests.quick import quick
from tests.splitfl import tiny
from tests.splitfl.models.test_split_equals_whole import gradients, load, reference

MASK_BT = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)


def activation(labels: Tensor | None = None) -> Activation:
    hidden = torch.arange(1.0, 19.0).reshape(9, 2)
    default = torch.tensor([0, 1, 2])
    return Activation(
        ids_B=torch.tensor([7, 8, 9]),
        hidden=hidden,
        context={"mask": MASK_BT},
        labels=default if labels is None else labels,
    )


def first(message: Activation) -> Tensor:
    return torch.zeros(len(message.ids_B), dtype=torch.int64)


def nowhere(message: Activation) -> None:
    return None


def lost(*places: int) -> Tensor:
    arrived_N = torch.ones(9, dtype=torch.bool)
    arrived_N[list(places)] = False
    return arrived_N


def test_a_lost_token_leaves_the_mask_and_a_sample_without_its_pooled_token_the_batch() -> None:
    heard = without_tokens(activation(), lost(1, 3, 8), first)
    assert heard is not None
    assert heard.message.ids_B.tolist() == [7, 9]
    assert heard.message.context["mask"].tolist() == [[1, 0, 1, 0], [1, 1, 1, 0]]
    assert heard.message.hidden is not None
    assert heard.message.hidden[:, 0].tolist() == [1, 5, 11, 13, 15]
    assert heard.message.labels is not None
    assert heard.message.labels.tolist() == [0, 2]


def test_nothing_is_heard_of_a_batch_that_lost_every_pooled_token() -> None:
    assert without_tokens(activation(), lost(0, 3, 5), first) is None


def test_a_language_model_predicts_nothing_from_a_lost_token() -> None:
    labels = torch.tensor([[4, 5, 6, -100], [4, 5, -100, -100], [4, 5, 6, 7]])
    heard = without_tokens(activation(labels), lost(1, 3, 5), nowhere)
    assert heard is not None
    assert heard.message.ids_B.tolist() == [7, 9]  # the second one's only prediction was from its first token
    assert heard.message.labels is not None
    assert heard.message.labels.tolist() == [[4, 5, -100, -100], [4, -100, 6, 7]]
    assert torch.equal(labels, torch.tensor([[4, 5, 6, -100], [4, 5, -100, -100], [4, 5, 6, 7]]))


def test_the_gradient_of_a_lost_row_is_zero() -> None:
    sent = activation()
    heard = without_tokens(sent, lost(1, 3, 8), first)
    assert heard is not None
    reply = Gradient(ids_B=heard.message.ids_B, grad=torch.ones(5, 2))
    whole = gradient_of_sent(heard, sent, reply)
    assert whole.ids_B.tolist() == [7, 8, 9]
    assert whole.grad[:, 0].tolist() == [1, 0, 1, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("policy", ["zero", "rescale"])
def test_the_gradient_is_the_chain_rules(policy: str) -> None:
    sent, arrived_N = activation(), lost(2, 4, 5)
    assert sent.hidden is not None
    leaf = sent.hidden.clone().requires_grad_()
    scale = 1.0 if policy == "zero" else scale_of(arrived_N)
    weight = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    (zeroed(leaf, arrived_N) * scale * weight).sum().backward()
    heard = with_rows(sent, zeroed(sent.hidden, arrived_N) * scale, arrived_N * scale)
    grad = gradient_of_sent(heard, sent, Gradient(ids_B=sent.ids_B, grad=weight)).grad
    assert leaf.grad is not None
    torch.testing.assert_close(grad, leaf.grad)


@pytest.mark.slow
def test_rescaling_leaves_the_mean_over_losses_as_it_was() -> None:
    chance = torch.Generator().manual_seed(1)
    rows_ND, total, drops = torch.randn(12, 3, generator=chance), torch.zeros(12, 3), 20_000
    counted = 0
    for arrived_N in torch.rand(drops, 12, generator=chance) < 0.6:
        if arrived_N.any():
            total += zeroed(rows_ND, arrived_N) * scale_of(arrived_N)
            counted += 1
    # Each row's factor is 0 or about 1 / 0.6: its mean over 20,000 is 1 within 0.006 (one sigma).
    assert (total / counted / rows_ND - 1.0).abs().max() < 0.025
    zero = sum(zeroed(rows_ND, arrived) for arrived in torch.rand(2000, 12, generator=chance) < 0.6)
    assert (zero / 2000 / rows_ND).mean() == pytest.approx(0.6, abs=0.02)


def test_a_sample_that_is_left_out_takes_its_rows_along() -> None:
    sent = activation()
    assert sent.hidden is not None
    whole = with_rows(sent, sent.hidden, torch.ones(9))
    heard = without_samples(whole, torch.tensor([True, False, True]))
    assert heard is not None
    assert heard.kept_N.tolist() == [True] * 3 + [False] * 2 + [True] * 4
    assert heard.message.ids_B.tolist() == [7, 9]
    assert without_samples(whole, torch.zeros(3, dtype=torch.bool)) is None


def test_a_memory_fills_holes_until_it_is_too_old() -> None:
    memory, new = StaleCache(2), torch.full((2, 1), 5.0)
    assert not memory.recall(0, 3, 0, new.clone(), torch.tensor([True, False]))
    assert memory.recall(0, 3, 1, new.clone() + 1, torch.tensor([False, True]))
    third = new.clone() + 2
    assert memory.recall(0, 3, 2, third, torch.tensor([False, False]))
    assert third.tolist() == [[5.0], [6.0]]
    assert not memory.recall(0, 3, 3, new.clone(), torch.tensor([False, False]))  # the first is of round 0
    assert not memory.recall(1, 3, 3, new.clone(), torch.tensor([False, True]))  # another client's


FAMILIES = [
    ("bert", SEQUENCE_CLASSIFICATION),
    ("distilbert", SEQUENCE_CLASSIFICATION),
    ("gpt2", SEQUENCE_CLASSIFICATION),
    ("gpt2", CAUSAL_LM),
    ("llama", CAUSAL_LM),
    ("mistral", CAUSAL_LM),
]


@pytest.mark.parametrize(
    ("model_type", "kind"), quick(FAMILIES, ("bert", SEQUENCE_CLASSIFICATION), ("gpt2", CAUSAL_LM))
)
def test_masking_equals_the_unsplit_model_with_those_tokens_masked_above_the_cut(
    model_type: str, kind: str, tmp_path: Path
) -> None:
    cut, folder = 2, tiny.save(tmp_path / "model", model_type, kind)
    head, body = load(folder, kind, cut, 0, lora=True)
    inputs, labels = tiny.batch(kind)
    sent, arrived_N, pooled = spoken(head, inputs, labels, kind)
    heard = without_tokens(sent, arrived_N, pooled)
    assert heard is not None
    assert heard.message.ids_B.tolist() == [0, 1, 2]  # so that the whole model sees the same batch
    loss = played(head, body, inputs, sent, heard)
    split = gradients([head.model, body.model])
    whole = reference(folder, kind, model_type, cut, lora=True, dtype="float32", attention="sdpa")
    there_BT = heard.message.context["mask"]
    assert heard.message.labels is not None
    expected = masked_above(whole, cut, inputs, there_BT, heard.message.labels)
    assert torch.equal(loss, expected)
    assert not torch.equal(loss, whole(**inputs, labels=heard.message.labels).loss)
    found = gradients([whole])
    assert split.keys() == found.keys()
    for name, value in found.items():
        assert torch.equal(split[name], value), name


def spoken(head, inputs, labels, kind):  # type: ignore[no-untyped-def]
    context = head.context_of(inputs)
    with torch.no_grad():
        hidden_BTD = head(inputs, {})
    mask_BT = context["mask"]
    sent = Activation(
        ids_B=torch.arange(len(mask_BT)), hidden=hidden_BTD[mask_BT], context=context, labels=labels
    )
    arrived_BT = torch.ones_like(mask_BT)
    arrived_BT[0, [1, 5, 6]] = arrived_BT[2, 2] = arrived_BT[1, 4] = False
    pooled = nowhere if kind == CAUSAL_LM else (lambda m: m.context.get("last", first(m)))
    return sent, arrived_BT[mask_BT], pooled


def played(head, body, inputs, sent: Activation, heard: ReceivedActivation) -> Tensor:  # type: ignore[no-untyped-def]
    """The body learns from what was heard, the head from the gradient of what it sent."""
    message, mask_BT = heard.message, sent.context["mask"]
    there_BT = message.context["mask"]
    hidden_BTD = head(inputs, {})
    given = torch.zeros_like(hidden_BTD)
    assert message.hidden is not None
    given[there_BT] = message.hidden
    given.requires_grad_()
    loss = body(given, message.context, message.labels).loss
    loss.backward()
    assert given.grad is not None
    reply = Gradient(ids_B=message.ids_B, grad=given.grad[there_BT])
    back = torch.zeros_like(hidden_BTD)
    back[mask_BT] = rows(gradient_of_sent(heard, sent, reply).grad)
    hidden_BTD.backward(back)
    return torch.as_tensor(loss)


def masked_above(  # type: ignore[no-untyped-def]
    whole: nn.Module, cut: int, inputs, there_BT: Tensor, labels: Tensor
) -> Tensor:
    """The unsplit model's loss with other tokens masked in the blocks from the cut on.

    The masks are the model's own: it is run once with these tokens masked everywhere, and
    what its upper blocks are given there is what they are given again.
    """
    blocks = next(
        part for part in whole.modules() if isinstance(part, nn.ModuleList) and len(part) == tiny.BLOCKS
    )
    caught: dict[int, dict[str, Tensor]] = {}
    names = ("attention_mask", "attn_mask")

    def catch(index: int):  # type: ignore[no-untyped-def]
        def hook(_module, args, kwargs):  # type: ignore[no-untyped-def]
            caught[index] = {name: kwargs[name] for name in names if name in kwargs}
            caught[index] |= {str(i): value for i, value in enumerate(args) if i and _is_mask(value)}

        return hook

    def put(index: int):  # type: ignore[no-untyped-def]
        def hook(_module, args, kwargs):  # type: ignore[no-untyped-def]
            own = caught[index]
            swapped = tuple(own.get(str(i), value) for i, value in enumerate(args))
            return swapped, {**kwargs, **{name: own[name] for name in names if name in own}}

        return hook

    def run(maker, attention_BT: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        handles = [
            blocks[i].register_forward_pre_hook(maker(i), with_kwargs=True) for i in range(cut, tiny.BLOCKS)
        ]
        try:
            given = {**inputs, "attention_mask": attention_BT.to(inputs["attention_mask"].dtype)}
            return torch.as_tensor(whole(**given, labels=labels).loss)
        finally:
            for handle in handles:
                handle.remove()

    with torch.no_grad():
        run(catch, there_BT)
    loss = run(put, inputs["attention_mask"])
    loss.backward()
    return loss


def _is_mask(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4
