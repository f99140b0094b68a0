import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitfl.core.errors import ConfigError
from splitfl.data.examples import Examples, Ints, gather
from splitfl.data.share import share


def _made(classes: list[int]) -> Examples:
    return gather([f"{i}" for i in range(len(classes))], classes, [f"g{c}" for c in classes])


def _unevenness(examples: Examples, shares: list[Ints]) -> float:
    """Mean total variation distance between a client's classes and everyone's."""
    assert examples.labels is not None
    whole = np.bincount(examples.labels) / len(examples)
    own = [np.bincount(examples.labels[part], minlength=len(whole)) / len(part) for part in shares]
    return float(np.mean([np.abs(one - whole).sum() / 2 for one in own]))


@given(
    classes=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    clients=st.integers(1, 12),
    how=st.sampled_from(["natural", "iid", "dirichlet"]),
    alpha=st.sampled_from([1e-300, 1e-3, 0.5, 100.0]),
    seed=st.integers(0, 3),
)
def test_every_example_has_one_owner_and_every_client_an_example(
    classes: list[int], clients: int, how: str, alpha: float, seed: int
) -> None:
    if clients > len(classes) or (how == "natural" and clients > len(set(classes))):
        with pytest.raises(ConfigError):
            share(_made(classes), clients, how, alpha, seed)
        return
    shares = share(_made(classes), clients, how, alpha, seed)
    assert len(shares) == clients
    assert all(len(part) and (np.diff(part) > 0).all() for part in shares)
    assert np.array_equal(np.sort(np.concatenate(shares)), np.arange(len(classes)))


@pytest.mark.parametrize("how", ["natural", "iid", "dirichlet"])
def test_the_same_seed_gives_the_same_shares(examples: Examples, how: str) -> None:
    one, other = (share(examples, 3, how, 0.5, 7) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("how", ["iid", "dirichlet"])
def test_another_seed_gives_other_shares(examples: Examples, how: str) -> None:
    one, other = (share(examples, 3, how, 0.5, seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_natural_gives_whole_groups_and_nearly_even_sizes(examples: Examples) -> None:
    shares = share(examples, 5, "natural")
    owners = [{examples.groups[i] for i in part} for part in shares]
    assert sum(len(groups) for groups in owners) == 12
    sizes = [len(part) for part in shares]
    assert max(sizes) - min(sizes) <= 25  # one group


def test_iid_and_dirichlet_shares_differ_by_one_example_at_most(examples: Examples) -> None:
    for how in ("iid", "dirichlet"):
        sizes = [len(part) for part in share(examples, 7, how, 0.1)]
        assert max(sizes) - min(sizes) <= 1


def test_a_smaller_alpha_is_more_uneven() -> None:
    made = _made([i % 10 for i in range(4000)])
    uneven = [_unevenness(made, share(made, 20, "dirichlet", alpha)) for alpha in (0.01, 1.0, 100.0, 1e5)]
    assert uneven == sorted(uneven, reverse=True)
    assert uneven[0] > 0.6
    assert uneven[-1] < 2 * _unevenness(made, share(made, 20, "iid"))


def test_dirichlet_without_labels_is_uneven_in_groups(unlabelled: Examples) -> None:
    shares = share(unlabelled, 4, "dirichlet", 0.01)
    assert min(len({unlabelled.groups[i] for i in part}) for part in shares) < 12


@pytest.mark.parametrize("how", ["natural", "iid", "dirichlet"])
def test_more_clients_than_samples_are_refused(how: str) -> None:
    with pytest.raises(ConfigError, match=r"federation.clients must be at most the 3 samples, got 4"):
        share(_made([0, 1, 2]), 4, how)


def test_fewer_groups_than_clients_are_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"these data have 2 for 3 clients.*iid or dirichlet"):
        share(_made([0, 1, 1, 0]), 3, "natural")


def test_dirichlet_with_nothing_to_be_uneven_in_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs class labels or groups .*; partition iid"):
        share(gather(["a", "b"], None, ["", ""]), 2, "dirichlet")


def test_settings_out_of_range_are_refused(examples: Examples) -> None:
    with pytest.raises(ConfigError, match=r"federation.clients must be at least 1, got 0"):
        share(examples, 0, "iid")
    with pytest.raises(ConfigError, match=r"unknown federation.partition 'naturl'; did you mean 'natural'"):
        share(examples, 2, "naturl")
    with pytest.raises(ConfigError, match=r"federation.dirichlet_alpha must be above 0.0, got 0"):
        share(examples, 2, "dirichlet", 0.0)
