"""Attacks on hidden states and gradients whose truth is known by construction."""

# N tokens, V vocabulary, D hidden, E width of the embedding, T tokens of a text

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from splitfl.config import PrivacyConfig, chosen
from splitfl.data.batch import Batch
from splitfl.models.cut import Piece
from splitfl.models.load import load_piece
from splitfl.privacy import exact, label_clusters, label_cosine, label_norm, linear, nearest, optimised
from splitfl.privacy.embedding import embedding_of, nearest_rows
from splitfl.privacy.exact import ExactSettings
from splitfl.privacy.guess import TokenGuess
from splitfl.privacy.observation import ObservedSample
from splitfl.privacy.optimised import OptimisedSettings
from splitfl.privacy.scoring import Truth, measures
from splitfl.privacy.spec import Evidence
from tests.quick import quick
from tests.splitfl import tiny, toy

BYTES, TEXTS, WIDTH = 257, 4, 16


def texts(seed: int, count: int, width: int) -> Tensor:
    """Random bytes (count, width), as varied as a text can be."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, BYTES, (count, width)))


def observed(head: Piece, ids_BT: Tensor, noise: float = 0.0) -> list[ObservedSample]:
    with torch.no_grad():
        hidden_BTD = head({"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)})
    hidden_BTD = hidden_BTD + noise * torch.randn(
        hidden_BTD.shape, generator=torch.Generator().manual_seed(0)
    )
    places_T = torch.arange(ids_BT.shape[1])
    return [
        ObservedSample(
            client=0, lap=1, number=number, batch_size=len(ids_BT), places_T=places_T, hidden_TD=hidden_TD
        )
        for number, hidden_TD in enumerate(hidden_BTD)
    ]


def evidence(head: Piece, samples: Sequence[ObservedSample], most_candidates: int = 1024) -> Evidence:
    ids_BT = texts(1, 64, 32)
    public = Batch(
        ids_B=torch.arange(64),
        inputs={"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)},
        labels=ids_BT,
    )
    return Evidence(
        samples=samples,
        load_head=lambda: head,
        load_tail=lambda: head,
        load_public=lambda: [public],
        settings=chosen(PrivacyConfig, [ExactSettings], {"most_candidates": most_candidates}),
    )


def recovered(guess: TokenGuess, ids_BT: Tensor) -> float:
    (share, *_) = measures(guess, Truth(tokens=list(ids_BT)))
    assert share.metric == "token_recovery"
    return share.value


@pytest.mark.parametrize("cut", quick((1, 2, 3), 2))
def test_a_causal_head_is_inverted_exactly_at_every_cut(cut: int) -> None:
    head, ids_BT = load_piece("gpt2-bytes", "causal-lm", 0, cut), texts(0, TEXTS, WIDTH)
    guess = exact.attack(evidence(head, observed(head, ids_BT)))
    assert recovered(guess, ids_BT) == 1.0
    assert guess.facts["residual"] < 1e-4


def test_with_noise_the_first_token_is_the_best_of_all_candidates_and_sets_the_bound_for_others() -> None:
    head, ids_BT = load_piece("gpt2-bytes", "causal-lm", 0, 1), texts(0, 1, 6)
    guess = exact.attack(evidence(head, observed(head, ids_BT, noise=1e-3)))
    assert recovered(guess, ids_BT) == 1.0
    assert guess.facts["residual"] > exact.TOLERANCE
    assert BYTES / 6 <= guess.facts["candidates_per_token"] < BYTES


def test_the_exact_attack_stops_at_a_token_that_did_not_arrive() -> None:
    head, ids_BT = load_piece("gpt2-bytes", "causal-lm", 0, 1), texts(0, 1, 8)
    (whole,) = observed(head, ids_BT)
    places_T = torch.tensor([0, 1, 2, 4, 5, 6, 7])
    holed = ObservedSample(
        client=0, lap=1, number=0, batch_size=1, places_T=places_T, hidden_TD=whole.hidden_TD[places_T]
    )
    guess = exact.attack(evidence(head, [holed]))
    assert guess.tokens[0].tolist() == [*ids_BT[0, :3].tolist(), -1, -1, -1, -1]


def test_the_nearest_row_to_an_embedding_is_its_own_token() -> None:
    table_VE = embedding_of(load_piece("gpt2-bytes", "causal-lm", 0, 1))
    assert torch.equal(nearest_rows(table_VE, table_VE)[:, 0], torch.arange(BYTES))


def test_the_first_token_of_a_text_is_the_nearest_token_alone() -> None:
    head, ids_BT = load_piece("gpt2-bytes", "causal-lm", 0, 2), texts(0, TEXTS, WIDTH)
    guess = nearest.attack(evidence(head, observed(head, ids_BT)))
    assert [int(tokens[0]) for tokens in guess.tokens] == ids_BT[:, 0].tolist()


@pytest.mark.parametrize("cut", quick((1, 3), 1))
def test_the_linear_inverter_equals_a_ridge_regression_by_numpy(cut: int) -> None:
    head, ids_BT = load_piece("gpt2-bytes", "causal-lm", 0, cut), texts(0, 16, WIDTH)
    known = evidence(head, observed(head, ids_BT))
    found = recovered(linear.attack(known), ids_BT)

    table_VE = embedding_of(head).numpy().astype(np.float64)
    (public,) = known.public
    with torch.no_grad():
        public_ND = head(public.inputs).flatten(0, 1).numpy().astype(np.float64)
    mean_D, wanted_NE = public_ND.mean(0), table_VE[public.inputs["input_ids"].flatten().numpy()]
    centred = public_ND - mean_D
    penalty = 1e-6 * (public_ND**2).mean()
    stacked = np.vstack([centred, np.sqrt(penalty * len(public_ND)) * np.eye(len(mean_D))])
    target = np.vstack([wanted_NE - wanted_NE.mean(0), np.zeros((len(mean_D), table_VE.shape[1]))])
    weights, *_ = np.linalg.lstsq(stacked, target, rcond=None)
    rows_ND = torch.cat([sample.hidden_TD for sample in known.samples]).numpy().astype(np.float64)
    guess_NE = (rows_ND - mean_D) @ weights + wanted_NE.mean(0)
    distances = (guess_NE**2).sum(1)[:, None] - 2 * guess_NE @ table_VE.T + (table_VE**2).sum(1)
    expected = float((distances.argmin(1) == ids_BT.flatten().numpy()).mean())
    assert abs(found - expected) <= 0.01
    assert expected > 0.5


def test_with_random_hidden_states_the_linear_inverter_is_near_chance() -> None:
    head, ids_BT = load_piece("gpt2-bytes", "causal-lm", 0, 1), texts(0, 16, WIDTH)
    samples = observed(head, ids_BT)
    shuffled = [
        ObservedSample(
            client=0, lap=1, number=0, batch_size=1, places_T=one.places_T,
            hidden_TD=torch.randn(one.hidden_TD.shape, generator=torch.Generator().manual_seed(one.number)),
        )
        for one in samples
    ]  # fmt: skip
    assert recovered(linear.attack(evidence(head, shuffled)), ids_BT) < 0.05


def gradients(classes: Sequence[int], scales: Sequence[float] = (1.0, 1.0, 1.0)) -> list[ObservedSample]:
    """Gradients around a direction of each class."""
    noise = torch.Generator().manual_seed(0)
    places_T, hidden_TD = torch.arange(2), torch.zeros(2, 8)
    samples = []
    for number, label in enumerate(classes):
        grad_TD = torch.zeros(2, 8)
        grad_TD[0, label] = scales[label]
        grad_TD += 0.01 * torch.randn(grad_TD.shape, generator=noise)
        samples.append(
            ObservedSample(
                client=0, lap=1, number=number, batch_size=1, places_T=places_T, hidden_TD=hidden_TD,
                output_TD=hidden_TD, grad_TD=grad_TD,
            )
        )  # fmt: skip
    return samples


def on_labels(samples: Sequence[ObservedSample], known: dict[int, int]) -> Evidence:
    def unused() -> Piece:
        raise AssertionError("this attack needs no piece")

    return Evidence(
        samples=samples,
        load_head=unused,
        load_tail=unused,
        load_public=list,
        num_classes=3,
        known=known,
    )


def test_labels_are_read_from_norms_directions_and_clusters() -> None:
    classes = [0, 1, 2, 0, 1, 0, 1, 0, 0, 1]
    truth = Truth(classes_S=torch.tensor(classes))
    rare = gradients(classes, scales=(1.0, 1.0, 3.0))
    (by_norm,) = measures(label_norm.attack(on_labels(rare, {})), truth)
    (by_cosine,) = measures(label_cosine.attack(on_labels(rare, {0: 0, 1: 1, 2: 2})), truth)
    (by_cluster,) = measures(label_clusters.attack(on_labels(rare, {})), truth)
    assert (by_norm.metric, by_norm.value, by_norm.chance) == ("label_auc", 1.0, 0.5)
    assert (by_cosine.metric, by_cosine.value) == ("label_auc", 1.0)
    assert (by_cluster.metric, by_cluster.value, by_cluster.chance) == ("label_accuracy", 1.0, 0.5)


def test_the_chance_of_tokens_is_the_share_of_the_most_frequent_one() -> None:
    truth = Truth(tokens=[torch.tensor([7, 7, 7, 8]), torch.tensor([7, 9])], frequent=frozenset({7}))
    guess = TokenGuess(tokens=(torch.tensor([7, 7, 7, 8]), torch.tensor([-1, 9])))
    token, rare, text = measures(guess, truth)
    assert (token.value, token.chance, token.n) == (5 / 6, 4 / 6, 6)
    assert (rare.value, rare.chance, rare.n) == (1.0, 0.0, 2)
    assert (text.value, text.chance, text.n) == (0.5, 0.0, 2)


@pytest.mark.slow
def test_optimisation_recovers_a_short_text_from_an_encoder_of_one_block(tmp_path: Path) -> None:
    toy.model(tmp_path)
    head = load_piece(tmp_path, "sequence-classification", 0, 1, num_labels=2, pad_token_id=tiny.PADDING)
    ids_BT = texts(0, TEXTS, 8) % (tiny.VOCABULARY - 4) + 4
    public = texts(1, 64, 32) % (tiny.VOCABULARY - 4) + 4
    batch = Batch(
        ids_B=torch.arange(64),
        inputs={"input_ids": public, "attention_mask": torch.ones_like(public)},
        labels=public[:, 0],
    )
    known = Evidence(
        samples=observed(head, ids_BT),
        load_head=lambda: head,
        load_tail=lambda: head,
        load_public=lambda: [batch],
        settings=chosen(PrivacyConfig, [OptimisedSettings], {}),
    )
    guess = optimised.attack(known)
    assert recovered(guess, ids_BT) == 1.0
    assert guess.facts["residual"] < 1e-4
