"""A direction is its name's alone: the same bits in every process and thread, and on every device."""

import hashlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from splitfl.methods.parts.perturbations import rademacher

GOLDEN = "+-+-+++++++-+-++--+++++--+-+----++--++++"
PLACES = [
    (client, round_index, step, p)
    for client in (0, 1)
    for round_index in (0, 1)
    for step in (0, 1)
    for p in (0, 1)
]
ELSEWHERE = """
import hashlib
from splitfl.methods.parts.perturbations import rademacher
digest = hashlib.blake2b(digest_size=16)
for place in {places}:
    digest.update(rademacher(1001, 7, *place).numpy().tobytes())
print(digest.hexdigest())
"""


def fingerprint() -> str:
    digest = hashlib.blake2b(digest_size=16)
    for place in PLACES:
        digest.update(rademacher(1001, 7, *place).numpy().tobytes())
    return digest.hexdigest()


def test_perturbations_keep_their_recorded_values() -> None:
    """Also in another version of numpy, and on a machine of the other byte order."""
    signs = rademacher(40, 0, 1, 2, 3, 4).int().tolist()
    assert "".join("+" if sign > 0 else "-" for sign in signs) == GOLDEN


@pytest.mark.parametrize("parameters", [1, 63, 64, 65, 100_000])
def test_every_parameter_has_a_sign(parameters: int) -> None:
    signs = rademacher(parameters, 0, 0, 0, 0, 0)
    assert signs.dtype == torch.float32
    assert signs.shape == (parameters,)
    assert bool((signs.abs() == 1).all())


def test_a_shorter_perturbation_is_a_prefix_of_a_longer_one() -> None:
    assert torch.equal(rademacher(1000, 0, 0, 0, 0, 0)[:70], rademacher(70, 0, 0, 0, 0, 0))


def test_perturbations_of_different_names_are_uncorrelated() -> None:
    """Sums of a million products of signs are within five standard deviations of zero, and so is each sum."""
    million = 1_000_000
    drawn = torch.stack(
        [rademacher(million, 3, *place) for place in PLACES[:6]] + [rademacher(million, 4, 0, 0, 0, 0)]
    )
    assert bool((drawn.sum(1).abs() < 5 * million**0.5).all())
    products = drawn @ drawn.T - million * torch.eye(len(drawn))
    assert bool((products.abs() < 5 * million**0.5).all())


@pytest.mark.slow
def test_a_perturbation_is_the_same_in_another_process() -> None:
    code = ELSEWHERE.format(places=PLACES)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == fingerprint()


def test_a_perturbation_is_the_same_in_every_thread() -> None:
    alone = fingerprint()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: fingerprint(), range(8))) == {alone}
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert fingerprint() == alone
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")
def test_perturbed_updates_have_the_same_bits_on_cuda() -> None:
    there = torch.zeros(100_001, device="cuda")
    here = torch.zeros(100_001)
    for perturbation in range(20):
        signs = rademacher(100_001, 0, 0, 0, 0, perturbation)
        there.add_(signs.cuda(), alpha=0.1 / (perturbation + 3))
        here.add_(signs, alpha=0.1 / (perturbation + 3))
    assert torch.equal(there.cpu(), here)


@pytest.mark.bench
def test_two_million_signs_take_about_a_millisecond() -> None:
    times_s = []
    for perturbation in range(20):
        began_s = time.perf_counter()
        rademacher(2_000_000, 0, 0, 0, 0, perturbation)
        times_s.append(time.perf_counter() - began_s)
    assert min(times_s) < 2e-3
