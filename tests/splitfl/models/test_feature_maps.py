"""Pieces of networks for pictures compute, learn and count batches as the stock unsplit network does."""

# B batch, C channels, H height, W width

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from splitfl.adapters.inject import add_adapters, train_all
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import CutError
from splitfl.models import untrained as models
from splitfl.models.batch_norms import by_batch
from splitfl.models.checkpoint.source import resolve
from splitfl.models.cut import Piece, replica
from splitfl.models.feature_maps import as_feature_map, as_tokens, places
from splitfl.models.load import load_piece
from splitfl.models.untrained.small_net import SmallNetForImageClassification
from tests.splitfl import tiny

KIND = "image-classification"
PICTURED = [name for name in models.ABOUT if name != "gpt2-bytes"]
TINY: dict[str, Any] = {
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [2, 1, 1, 1],
    "num_labels": 5,
}


def save(folder: Path) -> Path:
    """A tiny ResNet as transformers saves one, whose norms have seen something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = ResNetForImageClassification(ResNetConfig(**TINY, image_size=32))
        with torch.no_grad():
            for value in model.parameters():
                value += 0.1 * torch.randn_like(value)
            model.train()(torch.randn(4, 3, 32, 32))
    model.save_pretrained(folder)
    return folder


def stock(folder: Path) -> ResNetForImageClassification:
    model = ResNetForImageClassification.from_pretrained(folder)
    assert isinstance(model, ResNetForImageClassification)
    return model


def batch(
    channels: int = 3, side: int = 32, labels: int = 5, seed: int = 3
) -> tuple[dict[str, Tensor], Tensor]:
    chance = torch.Generator().manual_seed(seed)
    pixels = torch.randn(6, channels, side, side, generator=chance)
    return {"pixel_values": pixels}, torch.randint(0, labels, (6,), generator=chance)


def load(folder: Path, *cuts: int) -> list[Piece]:
    ends = [0, *cuts, None]
    pieces = [load_piece(folder, KIND, first or 0, last) for first, last in pairwise(ends)]
    for piece in pieces:
        train_all(piece)
    return pieces


def split_step(pieces: list[Piece], inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """A step with only hidden states (B, T, D) and their gradients in between."""
    handed: list[Tensor] = []
    given: list[Tensor] = []
    state: Tensor | dict[str, Tensor] = inputs
    for piece in pieces[:-1]:
        given.append(piece(state))
        assert given[-1].ndim == 3
        handed.append(given[-1].detach().requires_grad_())
        state = handed[-1]
    loss = pieces[-1](state, {}, labels).loss
    loss.backward()
    for hidden, leaf in zip(reversed(given), reversed(handed), strict=True):
        hidden.backward(leaf.grad)
    assert isinstance(loss, Tensor)
    return loss


def assert_same_state(pieces: list[Piece], whole: nn.Module) -> None:
    """Every gradient, and every running statistic, to the bit; together the pieces have all of them."""
    grads = {n: v.grad for piece in pieces for n, v in piece.model.named_parameters()}
    buffers = {n: v for piece in pieces for n, v in piece.model.named_buffers()}
    assert grads.keys() == dict(whole.named_parameters()).keys()
    assert buffers.keys() == dict(whole.named_buffers()).keys()
    for name, value in whole.named_parameters():
        got = grads[name]
        assert got is not None
        assert value.grad is not None
        assert torch.equal(got, value.grad), name
    assert all(torch.equal(buffers[name], value) for name, value in whole.named_buffers())


@pytest.mark.parametrize(
    "cuts", [(2,), *(pytest.param(one, marks=pytest.mark.slow) for one in ((1,), (3,), (1, 3)))]
)
def test_a_step_of_a_split_resnet_equals_the_whole_ones(cuts: tuple[int, ...], tmp_path: Path) -> None:
    folder = save(tmp_path)
    pieces, whole = load(folder, *cuts), stock(folder).train()
    for seed in (3, 4):
        inputs, labels = batch(seed=seed)
        unsplit = whole(**inputs, labels=labels).loss
        unsplit.backward()
        assert torch.equal(split_step(pieces, inputs, labels), unsplit)
    assert_same_state(pieces, whole)
    assert int(whole.get_buffer("resnet.embedder.embedder.normalization.num_batches_tracked")) == 3


def test_without_a_graph_running_statistics_serve_and_stay(tmp_path: Path) -> None:
    folder = save(tmp_path)
    head, body = load(folder, 2)
    whole = stock(folder).eval()
    before = {name: value.clone() for name, value in whole.named_buffers()}
    inputs, _ = batch()
    with torch.no_grad():
        assert torch.equal(body(head(inputs)).logits, whole(**inputs).logits)
    held = dict(head.model.named_buffers()) | dict(body.model.named_buffers())
    assert all(torch.equal(held[name], value) for name, value in before.items())


def test_frozen_norms_keep_their_statistics_where_others_learn(tmp_path: Path) -> None:
    piece = load_piece(save(tmp_path), KIND, 0, 2)
    before = {name: value.clone() for name, value in piece.model.named_buffers()}
    piece(batch()[0]).sum()
    assert all(torch.equal(value, before[name]) for name, value in piece.model.named_buffers())


def test_replicas_have_running_statistics_of_their_own(tmp_path: Path) -> None:
    piece = load(save(tmp_path))[0]
    other = replica(piece)
    other(*((batch()[0], {}, batch()[1])))
    name = "resnet.embedder.embedder.normalization.running_mean"
    assert not torch.equal(piece.model.get_buffer(name), other.model.get_buffer(name))


@pytest.mark.parametrize(("cut", "name"), [(1, "cnn-mnist"), (1, "mlp-mnist")])
def test_a_step_of_a_split_small_network_equals_the_whole_ones(cut: int, name: str) -> None:
    pieces = load(resolve(name), cut)
    (one,) = load(resolve(name))
    whole = copy.deepcopy(one.model)
    assert isinstance(whole, SmallNetForImageClassification)
    inputs, labels = batch(channels=1, side=28, labels=10)
    unsplit = whole(**inputs, labels=labels).loss
    unsplit.backward()
    assert torch.equal(split_step(pieces, inputs, labels), unsplit)
    assert_same_state(pieces, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURED)
def test_an_untrained_model_depends_on_the_seed_and_not_on_the_cut(name: str) -> None:
    folder = resolve(name)
    whole = load_piece(folder, KIND, 0, num_labels=10, seed=5)
    head, body = load_piece(folder, KIND, 0, 1, num_labels=10, seed=5), load_piece(folder, KIND, 1, seed=5)
    pieces = dict(head.model.named_parameters()) | dict(body.model.named_parameters())
    assert all(torch.equal(pieces[n], value) for n, value in whole.model.named_parameters())
    other = load_piece(folder, KIND, 0, num_labels=10, seed=6)
    assert any(not torch.equal(v, other.model.get_parameter(n)) for n, v in whole.model.named_parameters())
    assert all(".classifier" in f".{n}" for n in whole.fresh)


@pytest.mark.parametrize(("name", "parameters"), [("cnn-mnist", 28_938), ("resnet18", 11_181_642)])
def test_the_networks_have_the_published_sizes(name: str, parameters: int) -> None:
    """ResNet-18 of torchvision has 11,689,512 with 1,000 classes: 990 x 513 more than with ten."""
    whole = load_piece(resolve(name), KIND, 0)
    assert sum(value.numel() for value in whole.parameters()) == parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURED)
def test_places_are_those_of_the_hidden_states(name: str) -> None:
    whole = load_piece(resolve(name), KIND, 0)
    config = whole.model.config
    pixels = torch.zeros(1, config.num_channels, config.image_size, config.image_size)
    for blocks in range(1, whole.num_blocks):
        head = load_piece(resolve(name), KIND, 0, blocks)
        with torch.no_grad():
            hidden = head({"pixel_values": pixels})
        assert hidden.shape == (1, *places(config, blocks))


def test_the_cifar_stem_keeps_every_place() -> None:
    config = load_piece(resolve("resnet18-cifar"), KIND, 0, 1).model.config
    assert places(config, 1) == (32 * 32, 64)
    assert places(config, 4) == (4 * 4, 512)


def test_a_shortened_network_has_a_new_classifier_on_its_last_block(tmp_path: Path) -> None:
    folder = save(tmp_path)
    piece, whole = load_piece(folder, KIND, 1, 3, shortened_to=3), stock(folder)
    assert piece.is_last
    assert piece.fresh == ("classifier.1.weight", "classifier.1.bias")
    assert piece.model.get_parameter("classifier.1.weight").shape == (5, 16)
    name = "resnet.encoder.stages.2.layers.0.layer.0.convolution.weight"
    assert torch.equal(piece.model.get_parameter(name), whole.get_parameter(name))
    assert piece(torch.zeros(2, 8 * 8, 8)).logits.shape == (2, 5)


@pytest.mark.parametrize(("model_type", "width"), [("convnext", 16), ("swin", 32)])
def test_a_norm_behind_the_last_stage_is_new_in_a_shortened_network(
    model_type: str, width: int, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path, model_type, KIND)
    piece = load_piece(folder, KIND, 2, 3, shortened_to=3, num_labels=5)
    norm = piece.base.get_submodule("layernorm")
    assert torch.equal(norm.get_parameter("weight"), torch.ones(width))
    shape = places(piece.block_config, 2)
    assert piece(torch.zeros(2, *shape)).logits.shape == (2, 5)
    adapter = AdapterConfig(head=side_config(rank=2), body=side_config(rank=2))
    if model_type == "convnext":  # an auxiliary network of no block: a classifier alone
        add_adapters(load_piece(folder, KIND, 3, 3, shortened_to=3, num_labels=5), adapter, 3, seed=0)
    else:
        with pytest.raises(CutError, match=r"method.auxiliary_blocks must be at least 1 for a swin model"):
            load_piece(folder, KIND, 3, 3, shortened_to=3, num_labels=5)


def test_a_picture_is_square_and_comes_back_as_it_was() -> None:
    picture = torch.randn(2, 3, 4, 4)
    assert torch.equal(as_feature_map(as_tokens(picture)), picture)
    assert torch.equal(as_feature_map(as_tokens(picture[:, :, 0, 0]))[:, :, 0, 0], picture[:, :, 0, 0])
    with pytest.raises(CutError, match="12 positions is not a square"):
        as_feature_map(torch.zeros(2, 12, 3))


def test_pixels_of_another_dtype_than_the_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CutError, match=r"a resnet model takes pixels of its own dtype: set model.dtype to"):
        load_piece(save(tmp_path), KIND, 0, dtype="bfloat16")


def test_batch_norms_are_back_to_rest_even_after_a_failure() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).eval()
    with pytest.raises(RuntimeError), by_batch(model, ["0"]):
        raise RuntimeError
    assert not model[0].training
