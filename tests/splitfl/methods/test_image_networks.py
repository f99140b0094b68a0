"""Networks for pictures are trained whole, batch norms and all, by methods that know nothing of pictures."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitfl.adapters.inject import held, train_all, trainable
from splitfl.adapters.model_export import MODEL_FOLDER, export_model
from splitfl.config import key_types
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Adapter, Done, Scalars
from splitfl.data.loader import Batches
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.evaluation.predictions import predict
from splitfl.methods.parts.method import Turn
from splitfl.methods.registry import METHODS
from splitfl.models.checkpoint.source import resolve
from splitfl.models.cut import Piece
from splitfl.models.feature_maps import places
from splitfl.models.load import load_piece
from splitfl.setup.experiment import Experiment
from tests.splitfl import shown
from tests.splitfl.driver import play
from tests.splitfl.methods.test_bytes import totals
from tests.splitfl.methods.test_stopping import Federation

WITH_AUXILIARY = {"auxiliary_blocks": 1, "upload_interval": 2}
ABLE = [name for name, spec in METHODS.items() if spec.single_pass is True]


def site(folder: Path, name: str = "sfl-v2", **tables: Any) -> Experiment:
    has_auxiliary = "auxiliary_blocks" in key_types(METHODS[name].settings)
    method = {"name": name, **(WITH_AUXILIARY if has_auxiliary else {})}
    return Experiment.of(shown.config(folder, shown.RESNET, method=method, **tables))


def plain_training(whole: Piece, batches: Batches, steps: int) -> tuple[list[float], nn.Module]:
    """The network as one, trained by torch alone."""
    model = copy.deepcopy(whole.model).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    losses = []
    for step in range(steps):
        batch = batches.batch(step)
        loss = model(**batch.inputs, labels=batch.labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses, model


LONG = [pytest.mark.slow, pytest.mark.long]
FIRST_IS_SLOW = [pytest.param(name, marks=LONG if at else pytest.mark.slow) for at, name in enumerate(ABLE)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["sfl-v2", *(pytest.param(one, marks=LONG) for one in ("sfl-v1", "fedlora"))]
)
def test_one_clients_split_training_is_plain_training(name: str, tmp_path: Path) -> None:
    one = site(tmp_path, name, federation={"clients": 1})
    losses, model = plain_training(one.whole(), one.batches(0), 6)
    played = play(one, tmp_path)
    assert played.losses == losses
    kept = model.state_dict()
    assert played.trained.keys() == kept.keys()
    assert all(torch.equal(value, kept[key]) for key, value in played.trained.items())


@pytest.mark.parametrize("name", FIRST_IS_SLOW)
def test_every_supporting_method_trains_an_image_network(name: str, tmp_path: Path) -> None:
    played = play(site(tmp_path, name, federation={"rounds": 3, "local_steps": 6}), tmp_path)
    assert sum(played.losses[-4:]) < sum(played.losses[:4])


@pytest.mark.slow
def test_running_statistics_are_averaged_like_weights(tmp_path: Path) -> None:
    played = play(site(tmp_path, federation={"rounds": 1}), tmp_path)
    uploads = [message for _, _, message, _ in played.said if isinstance(message, Adapter)]
    stem = "resnet.embedder.embedder.normalization"
    means: list[Tensor] = [upload.tensors[f"{stem}.running_mean"] for upload in uploads]
    assert len(means) == 2
    assert not torch.equal(*means)
    mean = (means[0].double() * 24 + means[1].double() * 24) / 48
    assert torch.equal(played.trained[f"{stem}.running_mean"], mean.float())
    assert int(played.trained[f"{stem}.num_batches_tracked"]) == 3
    body = "resnet.encoder.stages.3.layers.0.layer.0.normalization.num_batches_tracked"
    assert int(played.trained[body]) == 6  # the server's body has seen both clients' batches


def test_compute_changes_no_state_before_commit(tmp_path: Path) -> None:
    one = Federation(site(tmp_path))
    before = {name: value.clone() for name, value in one.server.trained().items()}
    round_0 = one.clients[0].round(0)
    next(round_0)
    activation = round_0.send(Done())
    turn = Turn(client=0, round=0, lap=1, position=1)
    first, second = one.server.compute(turn, activation), one.server.compute(turn, activation)
    assert first.losses == second.losses
    assert all(torch.equal(value, before[name]) for name, value in one.server.trained().items())
    one.server.commit(turn, second)
    moved = [name for name, value in one.server.trained().items() if not torch.equal(value, before[name])]
    assert any("running_var" in name for name in moved)


@pytest.mark.parametrize("name", FIRST_IS_SLOW)
def test_a_stopped_training_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    through, stopped, resumed = (Federation(site(tmp_path, name)) for _ in range(3))
    for round_index in range(2):
        through.play(round_index)
    stopped.play(0)
    for part, its in stopped.parts.items():
        resumed.parts[part].restore(its.state())
    resumed.position = stopped.position
    resumed.play(1)
    expected = through.server.trained()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.server.trained().items())


@pytest.mark.parametrize("name", FIRST_IS_SLOW)
def test_a_dry_run_has_the_ledgers_bytes(name: str, tmp_path: Path) -> None:
    one = site(tmp_path, name)
    assert run_dry(one).ledger == play(one, tmp_path).ledger


@pytest.mark.slow
def test_the_exported_model_has_the_same_metrics(tmp_path: Path) -> None:
    one = site(tmp_path)
    trained, whole = play(one, tmp_path).trained, one.whole()
    export_model(tmp_path / "run" / MODEL_FOLDER, trained, whole=whole, source=tmp_path / "model")
    again = measure_adapter(one, tmp_path / "run" / "adapter")
    assert again == predict(whole.model, one.held_out(), torch.device("cpu")).scores()
    cut = load_piece(tmp_path / "run" / MODEL_FOLDER, "image-classification", 0, 2)
    assert all(torch.equal(value, trained[name]) for name, value in cut.model.named_parameters())


@pytest.mark.slow
def test_scalars_train_a_whole_small_network(tmp_path: Path) -> None:
    federation = {"clients": 2, "rounds": 2, "local_steps": 4, "aggregator": "mean"}
    method = {"name": "decomfl", "perturbations": 20}
    one = Experiment.of(shown.config(tmp_path, shown.SMALL_NET, method=method, federation=federation))
    played = play(one, tmp_path)
    tensors = [
        tensor
        for _, _, message, reply in played.said
        for said in (message, reply)
        if isinstance(said, Adapter)
        for tensor in said.tensors.values()
    ]
    assert tensors == []
    up = [message for _, _, message, _ in played.said if isinstance(message, Scalars)]
    down = [reply for _, _, _, reply in played.said if isinstance(reply, Scalars)]
    assert [one.values.nbytes for one in up] == [4 * 4 * 20] * 4  # 4 K P a round and client
    assert [one.values.nbytes for one in down] == [2 * 4 * 4 * 20] * 2  # everybody's, as the next begins
    assert played.trained.keys() == trainable(one.whole()).keys()


def test_the_published_bytes_are_those_of_the_formula(tmp_path: Path) -> None:
    """FSL-SAGE's set-up: 60,000 pictures, two clients, batches of 256, every fifth of them in CSE-FSL.

    It counts hidden states, gradients and weights, both ways in every round; labels it does not.
    """
    head, auxiliary = whole_network("resnet18", 0, 2), whole_network("resnet18", 2, 3)
    hidden_bytes = 4 * places(head.model.config, 2)[0] * places(head.model.config, 2)[1]
    weights, above = nbytes(head), nbytes(auxiliary)
    assert 2 * 60_000 * hidden_bytes == 983_040_000
    assert 2 * 2 * weights == 10_960_192
    uploaded = len(range(0, -(-30_000 // 256), 5)) * 256
    assert 2 * (2 * uploaded * hidden_bytes + 2 * 2 * (weights + above)) == 290_602_240


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sfl-v2", "cse-fsl"])
def test_bytes_sent_equal_the_formula_except_for_the_first_download(name: str, tmp_path: Path) -> None:
    """All begin with the same weights, so what the first round would send down is at hand."""
    federation = {"rounds": 2, "local_steps": 0, "partition": "iid"}
    one = site(tmp_path, name, federation=federation)
    found = totals(play(one, tmp_path))
    pieces = one.pieces(one.config.client)
    config, weights = pieces.head().model.config, nbytes(pieces.head())
    t, c = places(config, 2)
    steps = range(0, 4, 1 if name == "sfl-v2" else 2)
    samples = 2 * 2 * sum(min(8, 30 - 8 * step) for step in steps)
    rounds_up, rounds_down = 2 * 2, 2 * 1
    expected = Counter({("up", "hidden"): 4 * t * c * samples})
    expected |= {("up", "adapter"): rounds_up * weights, ("down", "adapter"): rounds_down * weights}
    if name == "sfl-v2":
        expected["down", "hidden"] = expected["up", "hidden"]
    else:
        above = nbytes(pieces.auxiliary())
        expected |= {("up", "auxiliary"): rounds_up * above, ("down", "auxiliary"): rounds_down * above}
    kinds = ("hidden", "adapter", "auxiliary")
    assert {key: count for key, count in found.items() if key[1] in kinds and count} == expected


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"method": {"name": "decomfl"}},
            "'decomfl' passes a batch through its pieces more or less than once",
        ),
        ({"method": {"in_flight": 2}}, "method.in_flight must be 1 where batch norms are trained"),
        ({"method": {"micro_batch": 4}}, "method.micro_batch must be 0 where batch norms are trained"),
        ({"method": {"checkpoint_head": True}}, "method.checkpoint_head must be false where batch norms"),
        ({"federation": {"schedule": "buffered"}}, "federation.schedule must be 'synchronous' or 'deadline'"),
        (
            {"federation": {"robust": "median"}},
            "federation.robust must be 'none' where batch norms are trained",
        ),
        (
            {"federation": {"server_optimiser": "adam"}},
            "federation.server_optimiser must be 'none' where batch norms are trained",
        ),
        (
            {"adapter": {"head": {"kind": "lora"}}},
            "adapter.head.kind must be 'full' where the other side trains its own",
        ),
        (
            {"federation": {"aggregator": "stack"}},
            "adapter.head.kind must be 'lora' .* merges LoRA's products",
        ),
        ({"model": {"name": "minilm"}}, "a bert model does not support image-classification"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_unsupported_settings_are_refused(tables: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        Experiment.of(shown.config(tmp_path, shown.RESNET, **tables))


def test_lora_on_a_network_without_linear_modules_is_refused(tmp_path: Path) -> None:
    lora = {"head": {"kind": "lora"}, "body": {"kind": "lora"}}
    one = Experiment.of(shown.config(tmp_path, shown.RESNET, adapter=lora))
    with pytest.raises(ConfigError, match="a resnet model has no linear modules in its blocks for lora"):
        one.whole()


def whole_network(name: str, first: int, last: int) -> Piece:
    shortened_to = last if first else None
    piece = load_piece(resolve(name), "image-classification", first, last, shortened_to=shortened_to)
    train_all(piece)
    return piece


def nbytes(piece: Piece) -> int:
    return sum(value.nbytes for value in held(piece).values())
