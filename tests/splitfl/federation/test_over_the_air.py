"""A sum that forms in the air: who takes part, how noisy it is, and that a federation learns from it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from channel.phy.analog import AirComputation
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Adapter
from splitfl.federation.aggregators import weighted_mean
from splitfl.federation.over_the_air import OverTheAir
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import play

CLIENTS, NUMBERS = 20, 4000


def updates(version: int = 0, samples: tuple[int, ...] = (1,) * CLIENTS) -> list[Adapter]:
    chance = torch.Generator().manual_seed(3)
    return [
        Adapter(
            version=version,
            samples=count,
            tensors={
                "x.lora_A.weight": torch.randn(40, NUMBERS // 80, generator=chance),
                "x.lora_B.weight": torch.randn(NUMBERS // 80, 40, generator=chance).bfloat16(),
            },
        )
        for count in samples
    ]


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in tensors.values()])


def test_without_noise_and_silence_it_is_the_weighted_mean() -> None:
    sent = updates(samples=tuple(range(1, CLIENTS + 1)))
    heard = OverTheAir(seed=0, air=AirComputation(snr=1e18, truncation=1e-9))(sent)
    expected = weighted_mean(sent)
    assert {name: (value.shape, value.dtype) for name, value in heard.items()} == {
        name: (value.shape, value.dtype) for name, value in expected.items()
    }
    torch.testing.assert_close(flat(heard), flat(expected), rtol=1e-2, atol=1e-4)  # one of them is bfloat16


def test_noise_and_participation_follow_the_closed_forms() -> None:
    """Noise of power rms^2 / (K'^2 eta) a number for the K' who take part, of whom there are exp(-g0) K."""
    air = AirComputation(snr=10.0, truncation=0.1)
    silent = AirComputation(snr=1e18, truncation=0.1)
    scale = math.sqrt(float(flat(updates()[0].tensors).square().mean()))
    rates = []
    for version in range(40):
        sent = updates(version)
        noise = flat(OverTheAir(seed=1, air=air)(sent)) - flat(OverTheAir(seed=1, air=silent)(sent))
        took_part = scale / math.sqrt(float(noise.square().mean()) * air.alignment)
        assert took_part == pytest.approx(round(took_part), rel=0.06)
        rates.append(round(took_part) / CLIENTS)
    # 800 draws: one sigma is 0.0104
    assert sum(rates) / len(rates) == pytest.approx(math.exp(-0.1), abs=0.03)


def test_phase_errors_shrink_the_mean() -> None:
    one = [replace(update, tensors={"x": torch.ones(1000)}) for update in updates()] * 20
    air = AirComputation(snr=1e12, truncation=1e-9, phase_error_rad=0.5)
    heard = OverTheAir(seed=0, air=air)(one)["x"]
    # Two values make a symbol, which turns: what each pair loses along itself is exp(-sigma^2 / 2).
    assert float(heard.mean()) == pytest.approx(math.exp(-0.125), abs=0.05)


def test_a_round_without_clients_changes_nothing() -> None:
    assert OverTheAir(seed=0, air=AirComputation(snr=1.0, truncation=50.0))(updates()) == {}


place = toy.place(is_base=True)


def test_a_round_costs_symbols_and_learns_almost_as_without_the_air(place: Path, tmp_path: Path) -> None:
    federation = {"clients": 2, "rounds": 3, "local_steps": 3, "aggregator": "mean"}
    clean = play(Experiment.of(toy.config(place, federation=federation)), tmp_path)
    loud = {"sum_adapters": True, "snr_db": 40.0, "truncation": 1e-3}
    heard = play(Experiment.of(toy.config(place, federation=federation, analog=loud)), tmp_path)
    assert heard.losses[:6] == clean.losses[:6]  # the first round ends with the first sum
    assert heard.losses[6:] != clean.losses[6:]
    assert heard.losses[-1] == pytest.approx(clean.losses[-1], rel=0.2)
    rows = [row for row in heard.rows("transfer") if row["kind"] == "Adapter" and row["direction"] == "up"]
    held = sum(value.numel() for name, value in heard.trained.items() if _block(name) < 2)
    assert {row["symbols"] for row in rows} == {-(-held // 2)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, spec in METHODS.items() if spec.summable is True])
def test_the_air_sums_the_adapters_of_every_method_that_declares_it(
    name: str, place: Path, tmp_path: Path
) -> None:
    federation = {"clients": 2, "rounds": 2, "local_steps": 1, "aggregator": "mean"}
    loud = {"sum_adapters": True, "snr_db": 40.0, "truncation": 1e-3}
    one = Experiment.of(toy.config(place, method={"name": name}, federation=federation, analog=loud))
    sums = [row for row in play(one, tmp_path).rows("transfer") if row["symbols"] > 0]
    assert {(row["kind"], row["direction"]) for row in sums} == {("Adapter", "up")}


def _block(name: str) -> int:
    return next((int(part) for part in name.split(".") if part.isdigit()), 99)


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"federation": {"aggregator": "stack"}}, "needs individual updates"),
        ({"federation": {"aggregator": "mean", "robust": "median"}}, "needs individual updates"),
        ({"method": {"name": "spry"}, "model": {"attention": "eager"}}, "have cse-fsl, diloco, fedlora"),
    ],
)
def test_aggregators_that_need_separate_updates_are_refused(
    place: Path, tables: dict, complaint: str
) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=complaint):
        Experiment.of(toy.config(place, analog={"sum_adapters": True}, **tables))
