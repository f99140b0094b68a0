"""The picture of the cell's cost, and the process that measures it."""

import os
from pathlib import Path

from experiments.bench.cell_clock import many_users, one_thread, timed
from experiments.bench.cell_scale import USERS, picture
from experiments.bench.ratio import Figure


def test_the_picture_is_drawn_from_the_figures(tmp_path: Path) -> None:
    figures = [
        Figure(what=f"CPU s per simulated second, {users:,} users", ratios=(users / 1e3,)) for users in USERS
    ]
    picture([*figures, Figure(what="something else", ratios=(1.0,))], tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_is_timed_with_its_making() -> None:
    blocks, spent_s = timed(many_users(3), 0.02)
    assert blocks > 0.0
    assert spent_s > 0.0


def test_processes_started_meanwhile_have_one_thread_and_later_ones_what_they_had() -> None:
    before = dict(os.environ)
    with one_thread():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert dict(os.environ) == before
