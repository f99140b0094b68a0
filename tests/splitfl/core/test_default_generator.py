"""Draws from torch's default generator by several threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from splitfl.core.default_generator import default_generator


def test_each_of_several_threads_draws_from_its_own_seed() -> None:
    barrier = threading.Barrier(4)

    def drawn(seed: int) -> list[float]:
        barrier.wait(10)
        found = []
        for _ in range(50):
            with default_generator(seed):
                found.append(float(torch.rand(1000).sum() + torch.rand(1000).sum()))
        return found

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(drawn, range(4)))
    for seed, found in enumerate(together):
        with default_generator(seed):
            alone = float(torch.rand(1000).sum() + torch.rand(1000).sum())
        assert found == [alone] * 50


def test_the_generator_is_where_it_was_after_the_context() -> None:
    before = torch.random.get_rng_state()
    with default_generator(3):
        torch.rand(5)
    assert torch.equal(torch.random.get_rng_state(), before)
