"""Which methods no other beats."""

import pytest

from splitfl.comparison.ranking import Standing, pareto

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def made_up(label: str, values: tuple[float, ...], sent: int, metric: str = "accuracy") -> Standing:
    return Standing(
        label=label, method=label, rounds=3, seeds=tuple(range(len(values))), metric=metric, values=values,
        bytes_up=sent, bytes_down=0.0, airtime_s=1.0, energy_j=0.0, virtual_s=2.0, wall_s=3.0,
        client_flops=1e9, client_memory_bytes=1000, is_capped=False,
    )  # fmt: skip


def test_the_front_has_the_undominated_entrants() -> None:
    found = [
        made_up("good and dear", (0.9,), 900),
        made_up("as good and as dear", (0.9,), 900),
        made_up("bad and dear", (0.5,), 800),
        made_up("fair", (0.7,), 300),
        made_up("as cheap and worse", (0.6,), 300),
    ]
    assert [one.label for one in pareto(found, "bytes")] == ["fair", "good and dear", "as good and as dear"]


def test_the_front_of_a_loss_wants_it_small() -> None:
    found = [made_up("low", (1.5,), 900, "perplexity"), made_up("high", (9.5,), 950, "perplexity")]
    assert [one.label for one in pareto(found, "bytes")] == ["low"]
