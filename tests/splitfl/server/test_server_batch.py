"""Clients share a step of the body: the same ones on every transport, without those that are missing."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import Timeout
from splitfl.runtime.simulate import run_inproc
from splitfl.server.absences import Schedule
from splitfl.server.run import Run
from splitfl.server.session_router import SessionRouter
from splitfl.server.sync_server import SyncServer
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.server.test_fault_tolerance import Silent, Wire, nodes_of, start, story

SLOW_LINK = {"up": {"rate_bps": 1e6}, "down": {"rate_bps": 1e6}}
LOSSY = {**SLOW_LINK, "mtu_bytes": 500, "max_tries": 2, "up": {"rate_bps": 1e6, "loss_rate": 0.2}}

place = toy.place(is_base=True, rows=60)


def site_of(place: Path, batch: int = 2, clients: int = 3, **tables: Any) -> Experiment:
    federation = {"clients": clients, "rounds": 2, "local_steps": 2, **tables.pop("federation", {})}
    method = {"server_batch": batch, **tables.pop("method", {})}
    return Experiment.of(toy.config(place, method=method, federation=federation, **tables))


def steps_of(run: Played, round_index: int) -> list[list[tuple[int, float]]]:
    """(client, loss) of the clients that trained, by step of a round."""
    rows = [row for row in run.rows("step") if row["round"] == round_index]
    return [
        [(row["client"], row["loss"]) for row in rows if row["step"] == step]
        for step in sorted({row["step"] for row in rows})
    ]


def test_consecutive_clients_of_a_step_share_the_loss_of_their_batch(place: Path, tmp_path: Path) -> None:
    run = play(site_of(place, federation={"rounds": 1}, link=SLOW_LINK), tmp_path)
    served = [row for row in run.rows("compute") if row["side"] == "server"]
    for step in steps_of(run, 0):
        (_, one), (_, other), (_, alone) = step
        assert one == other != alone
        assert {client for client, _ in step} == {0, 1, 2}
    # A batch is computed once all have arrived, one client's part after the other's, and then answered.
    for rows in (served[at : at + 3] for at in range(0, len(served), 3)):
        (first, second), arrived_s = rows[:2], transfers(run, "up", rows)
        assert first["start_s"] >= max(arrived_s[:2])
        assert second["start_s"] == first["finish_s"]
        left_s = transfers(run, "down", rows, "start_s")
        assert left_s[0] == left_s[1] == second["finish_s"]
        assert left_s[2] >= rows[2]["finish_s"]


def transfers(run: Played, direction: str, rows: Any, when: str = "finish_s") -> list[float]:
    """For each of these rows of the server, a time of the client's activation, or of its gradient."""
    kind = {"up": "Activation", "down": "Gradient"}[direction]
    own: dict[int, list[dict[str, Any]]] = {row["client"]: [] for row in rows}
    for row in run.rows("transfer"):
        if row["kind"] == kind and row["client"] in own:
            own[row["client"]].append(row)
    found = []
    for row in rows:
        before = [one for one in own[row["client"]] if one["finish_s"] <= row["start_s"]]
        after = [one for one in own[row["client"]] if one["start_s"] >= row["finish_s"]]
        found.append((before[-1] if direction == "up" else after[0])[when])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "federation", [{}, {"client_steps": [1, 3, 2]}, {"clients": 4}], ids=["equal", "unequal steps", "even"]
)
def test_a_plan_has_the_bytes_the_flops_and_the_time_of_the_run(
    federation: dict[str, Any], place: Path, tmp_path: Path
) -> None:
    site = site_of(place, federation=federation, link=SLOW_LINK)
    run, plan = play(site, tmp_path), run_dry(site)
    for side in ("client", "server"):
        assert plan.ledger.total_flops(side) == run.ledger.total_flops(side)
    for direction in ("up", "down"):
        planned, counted = plan.ledger.total(direction), run.ledger.total(direction)
        assert planned.messages == counted.messages
        assert planned.payload_bytes == pytest.approx(counted.payload_bytes, rel=1e-3)
    assert plan.virtual_s == pytest.approx(run.ends[-1].finish_s, rel=1e-3)


@pytest.mark.slow
def test_a_client_that_is_not_heard_is_missing_from_its_batch(place: Path, tmp_path: Path) -> None:
    run = play(site_of(place, federation={"rounds": 4}, link=LOSSY), tmp_path)
    sizes = {len(step) for round_index in range(4) for step in steps_of(run, round_index)}
    assert sizes > {3}
    lost = [row for row in run.rows("transfer") if row["kind"] == "Activation" and row["lost"]]
    assert len(run.rows("step")) == 4 * 2 * 3 - len(lost)


@pytest.mark.slow
def test_a_batch_goes_on_without_a_client_after_the_deadline(place: Path, tmp_path: Path) -> None:
    federation = {"schedule": "deadline", "deadline_s": 0.5, "client_flops": [1e10, 1e10, 1e4]}
    run = play(site_of(place, batch=3, federation=federation, link=SLOW_LINK), tmp_path)
    ((one, other),) = steps_of(run, 0)  # it waited for the third until the deadline
    assert ({one[0], other[0]}, one[1]) == ({0, 1}, other[1])
    sent = [row for row in run.rows("transfer") if row["kind"] == "Gradient" and row["round"] == 0]
    assert min(row["start_s"] for row in sent) >= 0.5
    assert run.ends[0].finish_s >= 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "tables",
    [{}, {"federation": {"client_steps": [1, 3, 2]}, "link": LOSSY}, {"link": {"scenario": "lab-wifi"}}],
    ids=["ideal", "lossy", "cell"],
)
def test_threads_give_the_bits_of_one_process(tables: dict[str, Any], place: Path, tmp_path: Path) -> None:
    site, trained = site_of(place, **tables), []
    for name in ("alone", "threads"):
        (tmp_path / name).mkdir()
        with Run(site, tmp_path / name, Silent()) as run:
            nodes = nodes_of(site, tmp_path / name)
            if name == "alone":
                run_inproc(site.config, nodes, run.server_loop)
            else:
                router = SessionRouter()
                router.connect(run.server_loop)
                for thread in [start(node, Wire(router), 2) for node in nodes]:
                    thread.join(60)
                    assert not thread.is_alive()
            trained.append(run.trained())
    assert story(tmp_path / "alone") == story(tmp_path / "threads")
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


@pytest.mark.slow
def test_an_absent_client_makes_its_batch_smaller(place: Path, tmp_path: Path) -> None:
    site, folder = site_of(place, batch=3), tmp_path / "run"
    folder.mkdir()
    with Run(site, folder, Silent()) as run:
        schedule = Schedule(absent={(2, 0): 1})
        run_inproc(site.config, nodes_of(site, folder), run.server_loop, schedule=schedule)
    rows = [row for row in story(folder) if row["event"] in ("step", "absent") and row["round"] == 0]
    assert [row["client"] for row in rows if row["event"] == "absent"] == [2]
    steps = [row for row in rows if row["event"] == "step"]
    assert {row["client"] for row in steps} == {0, 1}
    assert len({row["loss"] for row in steps}) == 2


def test_an_error_in_an_absent_clients_turn_ends_the_others_waits(place: Path, tmp_path: Path) -> None:
    """Its turn may complete a batch for which the others wait."""
    site = site_of(place)
    with Run(site, None, Silent()) as run:
        loop = run.server_loop
        assert isinstance(loop, SyncServer)
        found: list[Exception] = []

        def wait() -> None:
            try:
                loop._order.await_commit(1)
            except Timeout as error:
                found.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        failure = Timeout("no worker")
        loop._serve_group = lambda group: (_ for _ in ()).throw(failure)  # type: ignore[method-assign]
        with pytest.raises(Timeout, match="no worker"):
            loop.pass_turn(0)
        waiting.join(20)
    assert found == [failure]
