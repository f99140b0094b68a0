"""The picture of the cell's cost, and the process that measures it."""

import os
from pathlib import Path

from experiments.bench.radio.cell_clock import many_users, one_thread, timed
from experiments.bench.radio.cell_scale import USERS, picture
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


def test_child_processes_have_one_thread_within_the_context_only() -> None:
    before = dict(os.environ)
    with one_thread():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert dict(os.environ) == before
