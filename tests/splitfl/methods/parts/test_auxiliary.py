"""An auxiliary equal to the body has its gradient; any other comes closer to it by being aligned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.accounting.flops import cost
from splitfl.adapters.inject import install, trainable
from splitfl.core.errors import ConfigError
from splitfl.core.messages import LOST, Activation, Adapter, Begin
from splitfl.data.batch import Batch
from splitfl.methods.parts.auxiliary import PREFIX, AlignmentSample, align, relative_error
from splitfl.models.cut import Piece
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.methods.losing import Losing

CASES = [
    ("bert", "sequence-classification"),
    pytest.param(("gpt2", "sequence-classification"), marks=pytest.mark.slow),
    ("llama", "causal-lm"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: " ".join(case))
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_type, kind = request.param
    folder = tmp_path_factory.mktemp(model_type)
    toy.model(folder / "model", model_type, kind)
    toy.data(folder / "data.tsv", rows=40, labelled=kind != "causal-lm")
    (folder / "task").write_text("lm" if kind == "causal-lm" else "classification")
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    toy.model(folder / "model", is_base=True)
    toy.data(folder / "data.tsv", rows=40)
    (folder / "task").write_text("classification")
    return folder


def site(place: Path, name: str, rounds: int = 1, clients: int = 1, **settings: Any) -> Experiment:
    federation = {"clients": clients, "rounds": rounds, "local_steps": 3, "aggregator": "mean"}
    method = {"name": name, **settings}
    task = {"name": (place / "task").read_text()}
    return Experiment.of(toy.config(place, method=method, federation=federation, task=task))


def pieces(site: Experiment) -> PieceLoader:
    return PieceLoader(config=site.config, task=site.task, num_blocks=site.num_blocks, device="cpu")


def trained_somewhere(piece: Piece) -> Piece:
    """The piece with every trainable tensor moved, by its name alone."""
    for name, value in sorted(trainable(piece).items()):
        chance = torch.Generator().manual_seed(sum(name.encode()))
        value.data += 0.05 * torch.randn(value.shape, generator=chance)
    return piece


def at_the_cut(site: Experiment, body: Piece) -> list[AlignmentSample]:
    """Batches with the body's own gradients."""
    head, batches = pieces(site).head(), site.batches(0)
    return [sample(head, body, batches.batch(step)) for step in range(3)]


def sample(head: Piece, body: Piece, batch: Batch) -> AlignmentSample:
    context = head.context_of(batch.inputs)
    hidden_BTD = head(batch.inputs, {}).detach()
    grad_BTD = gradient(body, hidden_BTD, context, batch.labels)
    return AlignmentSample(hidden_BTD=hidden_BTD, context=context, labels=batch.labels, grad_BTD=grad_BTD)


def gradient(piece: Piece, hidden_BTD: Tensor, context: dict[str, Tensor], labels: Tensor) -> Tensor:
    hidden_BTD = hidden_BTD.clone().requires_grad_()
    (grad_BTD,) = torch.autograd.grad(piece(hidden_BTD, context, labels).loss, hidden_BTD)
    return grad_BTD


def error(piece: Piece, samples: list[AlignmentSample]) -> float:
    errors = [
        relative_error(gradient(piece, one.hidden_BTD, dict(one.context), one.labels), one.grad_BTD)
        for one in samples
    ]
    return float(torch.stack(errors).mean())


def test_an_auxiliary_equal_to_the_body_has_its_gradient(place: Path) -> None:
    one = site(place, "fsl-sage", auxiliary_blocks=2)
    body, auxiliary = trained_somewhere(pieces(one).body()), pieces(one).auxiliary()
    install(auxiliary, trainable(body))
    samples = at_the_cut(one, body)
    assert all(bool(one.grad_BTD.any()) for one in samples)
    assert error(auxiliary, samples) == 0.0


@pytest.mark.slow
def test_alignment_brings_the_gradients_closer(place: Path) -> None:
    one = site(place, "fsl-sage", auxiliary_blocks=1)
    samples = at_the_cut(one, trained_somewhere(pieces(one).body()))
    auxiliary, again = pieces(one).auxiliary(), pieces(one).auxiliary()
    before = error(auxiliary, samples)
    assert align(auxiliary, samples, passes=5, lr=1e-2) > 0.0
    assert error(auxiliary, samples) < 0.9 * before
    align(again, samples, passes=5, lr=1e-2)
    assert all(torch.equal(trainable(again)[name], value) for name, value in trainable(auxiliary).items())


def heard(played: Played, client: int, round_index: int) -> dict[str, Tensor]:
    """What a client was sent of its auxiliary as it began this round."""
    for one, at, message, reply in played.said:
        if (one, at) == (client, round_index) and isinstance(message, Begin):
            tensors = reply.tensors if isinstance(reply, Adapter) else {}
            return {name: value for name, value in tensors.items() if name.startswith(PREFIX)}
    raise AssertionError("it never began")


@pytest.mark.slow
def test_every_second_round_each_client_receives_its_own_auxiliary(words: Path, tmp_path: Path) -> None:
    played = play(site(words, "fsl-sage", rounds=5, clients=2, align_interval=2), tmp_path)
    comes = [[bool(heard(played, client, at)) for at in range(5)] for client in range(2)]
    assert comes == [[False, True, False, True, False]] * 2
    own, other = heard(played, 0, 3), heard(played, 1, 3)
    assert own.keys() == other.keys()
    assert any(not torch.equal(own[name], other[name]) for name in own)
    aligned = [row for row in played.rows("compute") if row["side"] == "server"]
    assert len(aligned) == 2 * 5 * 3 + 2 * 2  # every upload, and two alignments for each client


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_lost_auxiliary_is_sent_again_in_the_next_round(
    direction: str, words: Path, tmp_path: Path
) -> None:
    one = site(words, "fsl-sage", rounds=3, align_interval=2)
    beginning = 5  # a round has five messages: begin, three uploads, the adapter
    played = play(one, tmp_path, Losing(frozenset({(0, direction, beginning)})))
    assert next(reply for _, at, _, reply in played.said if at == 1) is LOST
    assert heard(played, 0, 2)
    whole = play(one, tmp_path)
    same = [torch.equal(value, heard(played, 0, 2)[name]) for name, value in heard(whole, 0, 1).items()]
    assert all(same) is (direction == "down")  # aligned before it was lost, or only afterwards


@pytest.mark.parametrize("name", quick(["cse-fsl", "fsl-sage"], "cse-fsl"))
def test_every_second_batch_is_uploaded_starting_with_the_first(
    name: str, words: Path, tmp_path: Path
) -> None:
    one = site(words, name, rounds=2, upload_interval=2)
    played = play(one, tmp_path)
    sent = [message.ids_B for _, _, message, _ in played.said if isinstance(message, Activation)]
    batches = one.batches(0)
    assert [ids_B.tolist() for ids_B in sent] == [batches.batch(i).ids_B.tolist() for i in (0, 2, 3, 5)]
    assert [(row["round"], row["step"]) for row in played.rows("step")] == [(0, 0), (0, 2), (1, 0), (1, 2)]
    assert one.total_steps() == 4
    seen, total = (sum(len(batches.batch(i).ids_B) for i in range(steps)) for steps in (3, 6))
    uploads = [message for _, _, message, _ in played.said if isinstance(message, Adapter)]
    assert [upload.samples for upload in uploads] == [seen, total - seen]


@pytest.mark.slow
def test_weight_gradients_of_an_auxiliary_count_only_where_it_is_trained(words: Path, tmp_path: Path) -> None:
    spent = {}
    for name in ("cse-fsl", "fsl-sage"):
        one = site(words, name)
        spent[name] = play(one, tmp_path).ledger.total_flops("client")
        held, batches = pieces(one), one.batches(0)
        shapes = [batches.batch(step).inputs["input_ids"].shape for step in range(3)]
        auxiliary = held.auxiliary()
        if name == "fsl-sage":
            auxiliary.requires_grad_(False)
        assert spent[name] == sum(
            cost(piece, *shape).step_flops for shape in shapes for piece in (held.head(), auxiliary)
        )
    assert spent["fsl-sage"] < spent["cse-fsl"]


@pytest.mark.slow
def test_the_first_alignment_starts_from_the_body(place: Path, tmp_path: Path) -> None:
    """With as many blocks the auxiliary is then the body, whose gradients leave nothing to align."""
    played = play(site(place, "fsl-sage", rounds=2, auxiliary_blocks=2), tmp_path)
    sent = heard(played, 0, 1)
    first = play(site(place, "fsl-sage", rounds=1, auxiliary_blocks=2), tmp_path)
    then, later = (run.server._body.trained() for run in (first, played))  # type: ignore[attr-defined]
    assert then
    for name, value in then.items():
        assert torch.equal(sent[f"{PREFIX}{name}"], value)
    assert any(not torch.equal(value, later[name]) for name, value in then.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cse-fsl", "fsl-sage"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_lost_activation_changes_nothing_on_the_client(
    name: str, direction: str, words: Path, tmp_path: Path
) -> None:
    one = site(words, name)
    runs = (play(one, tmp_path, Losing(lost)) for lost in (frozenset(), frozenset({(0, direction, 2)})))
    heads = [next(m for _, _, m, _ in run.said if isinstance(m, Adapter)).tensors for run in runs]
    assert all(torch.equal(value, heads[1][key]) for key, value in heads[0].items())


@pytest.mark.slow
def test_the_clients_of_cse_fsl_share_their_auxiliary(words: Path, tmp_path: Path) -> None:
    played = play(site(words, "cse-fsl", rounds=2, clients=2), tmp_path)
    assert heard(played, 0, 1).keys() == heard(played, 1, 1).keys() != set()
    assert not any(name.startswith(PREFIX) for name in played.trained)


@pytest.mark.parametrize("name", ["cse-fsl", "fsl-sage"])
def test_unsupported_auxiliary_settings_are_refused(name: str, place: Path) -> None:
    with pytest.raises(
        ConfigError, match="auxiliary_blocks must be at most the 2 blocks above the cut, got 3"
    ):
        site(place, name, auxiliary_blocks=3)
    if (place / "task").read_text() == "lm":
        with pytest.raises(
            ConfigError, match=f"'{name}' needs method.auxiliary_blocks of at least 1 for a lan"
        ):
            site(place, name)


def test_the_auxiliary_trains_a_classifier_that_the_body_freezes(place: Path) -> None:
    one = site(place, "cse-fsl", auxiliary_blocks=1)
    own = [name for name in trainable(pieces(one).auxiliary()) if "lora" not in name]
    assert bool(own) is (one.task.kind == "sequence-classification")
    assert not [name for name in trainable(pieces(one).body()) if "lora" not in name]
