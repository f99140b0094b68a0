"""A run that is stopped anywhere and gone on with is the run that was never stopped."""

import json
import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from splitfl.client.client import ClientNode, completed_before
from splitfl.client.loop import run_client
from splitfl.config import FaultToleranceConfig
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import ConfigError, PeerLost, RejoinRequired
from splitfl.core.messages import Join, Leave
from splitfl.runtime.simulate import run_inproc
from splitfl.server.run import Run
from splitfl.server.session_router import SessionRouter
from splitfl.setup.experiment import Experiment
from splitfl.wire import Frame, decode
from tests.splitfl import toy

CLIENTS, ROUNDS, STEPS = 3, 4, 2
CODEC = {"activation": "int8", "gradient": "int4", "adapter_up": "int4", "adapter_down": "uniform:block=16"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and clean up."""


class Silent:
    """A screen for nobody."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        pass

    def measured(self, row: Any) -> None:
        pass


place = toy.place(is_base=True, rows=60)


def site_of(place: Path, **tables: dict[str, Any]) -> Experiment:
    federation = {"clients": CLIENTS, "rounds": ROUNDS, "local_steps": STEPS}
    return Experiment.of(toy.config(place, federation=federation, **tables))


def nodes_of(site: Experiment, folder: Path) -> list[ClientNode]:
    return [
        ClientNode.of(site, client, CheckpointStore.of_client(folder / "checkpoint" / f"client-{client}"))
        for client in range(site.config.federation.clients)
    ]


def play(site: Experiment, folder: Path, stop_after: int | None = None) -> dict[str, torch.Tensor] | None:
    """Plays from the last checkpoint in `folder`; killed after so many messages from there, if given."""
    folder.mkdir(exist_ok=True)
    nodes = nodes_of(site, folder)
    with Run(site, folder, Silent(), CheckpointStore(folder / "checkpoint").newest()) as run:
        for node in nodes:
            node.restore(run.first_round)
        take, left = run.server_loop.post, stop_after

        def dying(frame: bytes, answer: Callable[[bytes], None]) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left = None if left is None else left - 1
            take(frame, answer)

        run.server_loop.post = dying  # type: ignore[method-assign]
        try:
            run_inproc(site.config, nodes, run.server_loop, run.first_round)
        except Killed:
            return None
        return run.trained()


def story(folder: Path) -> list[dict[str, Any]]:
    """Everything that a run wrote down, but for the wall clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "wall_s"} for row in rows]


def assert_same(place: Path, tmp_path: Path, stops: list[int], **tables: dict[str, Any]) -> None:
    site = site_of(place, **tables)
    unbroken = play(site, tmp_path / "unbroken")
    assert unbroken is not None
    for stop in stops:
        assert play(site, tmp_path / "broken", stop) is None
    assert_goes_on_as(unbroken, site, tmp_path)


def assert_goes_on_as(unbroken: dict[str, torch.Tensor], site: Experiment, tmp_path: Path) -> None:
    """What is in `broken`, gone on with, ends as what is in `unbroken`, and tells the same story."""
    got = play(site, tmp_path / "broken")
    assert got is not None
    assert got.keys() == unbroken.keys()
    assert all(torch.equal(got[name], value) for name, value in unbroken.items())
    assert story(tmp_path / "broken") == story(tmp_path / "unbroken")


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_same_bits(place: Path, tmp_path: Path) -> None:
    assert_same(place, tmp_path, [14, 9])


@pytest.mark.slow
@pytest.mark.parametrize("method", [{"in_flight": 2}, {"server_batch": 2}], ids=lambda one: next(iter(one)))
def test_a_run_with_several_steps_at_once_and_losses_ends_with_the_same_bits(
    method: dict[str, int], place: Path, tmp_path: Path
) -> None:
    lossy = {"rate_bps": 1e6, "loss_rate": 0.2}
    tables = {"method": method, "link": {"max_tries": 2, "up": lossy, "down": lossy}}
    assert_same(place, tmp_path, [20], **tables)


def test_a_run_in_a_cell_killed_twice_ends_with_the_same_bits(place: Path, tmp_path: Path) -> None:
    assert_same(place, tmp_path, [17, 14], link={"scenario": "lab-wifi"})


@pytest.mark.slow
@pytest.mark.parametrize("link", [{}, {"scenario": "lab-wifi"}], ids=["links", "cell"])
def test_a_run_of_rounded_rows_killed_twice_ends_with_the_same_bits(
    link: dict[str, str], place: Path, tmp_path: Path
) -> None:
    assert_same(place, tmp_path, [17, 14], link=link, codec=CODEC)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        "sfl-v2",
        "hybrid",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("frozen", "cse-fsl", "fedlora")),
    ],
)
def test_a_run_in_a_cell_killed_anywhere_ends_with_the_same_bits(
    method: str, place: Path, tmp_path: Path
) -> None:
    """With clients of different speeds, so that they are at different messages, and tokens that are lost."""
    own = {"name": method} | ({"auxiliary_blocks": 1} if method == "cse-fsl" else {})
    tables: dict[str, Any] = {"link": {"scenario": "urban-macro-edge", "mtu_bytes": 256}, "method": own}
    if method == "sfl-v2":
        tables["erasure"] = {"activation": "mask", "gradient": "stale"}
    site = site_of(place, **tables)
    unbroken = play(site, tmp_path / "unbroken")
    assert unbroken is not None
    sent = sum(
        row["event"] == "transfer" and row["direction"] == "up" for row in story(tmp_path / "unbroken")
    )
    for stop in range(1, sent, 3):
        assert play(site, tmp_path / "broken", stop) is None
        assert_goes_on_as(unbroken, site, tmp_path)
        shutil.rmtree(tmp_path / "broken")


@pytest.mark.slow
@pytest.mark.parametrize("tens", [3, pytest.param(10, marks=pytest.mark.long)])
def test_a_run_killed_tens_of_times_at_random_ends_with_the_same_bits(
    tens: int, place: Path, tmp_path: Path
) -> None:
    chance = random.Random(7)
    for number in range(tens):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert_same(place, folder, [chance.randrange(16) for _ in range(10)])


@pytest.mark.slow
@pytest.mark.parametrize("messages", [36, 40], ids=["clients-ahead", "all-alike"])
def test_a_damaged_checkpoint_costs_the_rounds_since_the_one_before(
    place: Path, tmp_path: Path, messages: int
) -> None:
    site = site_of(place)
    unbroken = play(site, tmp_path / "unbroken")
    assert unbroken is not None
    assert play(site, tmp_path / "broken", messages) is None
    shelf = CheckpointStore(tmp_path / "broken" / "checkpoint")
    last = shelf.folder / f"round-{shelf.rounds()[-1]}.safetensors"
    damaged = bytearray(last.read_bytes())
    damaged[-1] ^= 1
    last.write_bytes(bytes(damaged))
    got = play(site, tmp_path / "broken")
    assert got is not None
    assert all(torch.equal(got[name], value) for name, value in unbroken.items())
    assert story(tmp_path / "broken") == story(tmp_path / "unbroken")


@pytest.fixture
def own(place: Path, tmp_path: Path) -> Path:
    """A copy of the model and the data that a test may change."""
    shutil.copytree(place / "model", tmp_path / "own" / "model")
    shutil.copy(place / "data.tsv", tmp_path / "own")
    return tmp_path / "own"


def _other_data(own: Path) -> dict[str, Any]:
    text = (own / "data.tsv").read_text()
    (own / "data.tsv").write_text(text.replace("gradients that", "gradients which"))
    return {}


def _other_labels(own: Path) -> dict[str, Any]:
    rows = (own / "data.tsv").read_text().splitlines()
    (own / "data.tsv").write_text("\n".join(row.replace("\tair\t", "\tsea\t") for row in rows))
    return {}


def _other_weights(own: Path) -> dict[str, Any]:
    weights = load_file(own / "model" / "model.safetensors")
    name = next(name for name in weights if "layer.3.output.dense.weight" in name)
    weights[name][0, 0] += 1
    save_file(weights, own / "model" / "model.safetensors", metadata={"format": "pt"})
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: {"train": {"head_lr": 0.5}}, "the settings of the run changed since it was written"),
        (_other_data, "the data changed since its state in .* was written"),
        (_other_labels, "the settings of the run changed since|the data changed since"),
        (_other_weights, "the model's initial weights changed since it was written"),
    ],
    ids=["settings", "data", "labels", "weights"],
)
def test_a_run_is_not_continued_with_other_settings_data_classes_or_weights(
    own: Path, tmp_path: Path, change: Callable[[Path], dict[str, Any]], message: str
) -> None:
    assert play(site_of(own), tmp_path / "run", 20) is None
    tables = change(own)
    with pytest.raises(ConfigError, match=message):
        play(site_of(own, **tables), tmp_path / "run")


@pytest.mark.slow
def test_a_server_refuses_data_that_changed_on_no_client(own: Path, tmp_path: Path) -> None:
    assert play(site_of(own), tmp_path / "run", 20) is None
    _other_data(own)
    kept = CheckpointStore(tmp_path / "run" / "checkpoint").newest()
    with pytest.raises(ConfigError, match="its data, their classes or their partition changed since"):
        Run(site_of(own), tmp_path / "run", Silent(), kept)


class Wire:
    """A connection to a switchboard in this process that can be cut."""

    def __init__(self, board: SessionRouter, requests: int | None = None) -> None:
        self._board, self._left = board, requests

    def request(self, frame: bytes) -> bytes:
        if self._left == 0:
            raise PeerLost("cut")
        self._left = None if self._left is None else self._left - 1
        replies: list[bytes] = []
        self._board.handle(Frame(frame).envelope.client, frame, replies.append)
        return replies[0]


def start(node: ClientNode, wire: Wire, rounds: int = ROUNDS) -> threading.Thread:
    def run() -> None:
        try:
            run_client(node, wire, rounds, Leave, lambda round_index, message: None)
        except PeerLost:
            return

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def fault_tolerance(**settings: Any) -> dict[str, Any]:
    return {"fault_tolerance": {"on_loss": "continue", **settings}}


@pytest.mark.slow
def test_a_lost_client_costs_its_own_work_and_nothing_else(place: Path, tmp_path: Path) -> None:
    site, board = site_of(place, **fault_tolerance()), SessionRouter()
    nodes = nodes_of(site, tmp_path)
    with Run(site, tmp_path, Silent()) as run:
        board.connect(run.server_loop)
        threads = [start(node, Wire(board, 7 if node.client == 1 else None)) for node in nodes]
        threads[1].join(60)
        run.server_loop.membership.lost(1)
        for thread in threads:
            thread.join(60)
        assert set(run.server_loop.membership.left) == {0, 2}
        assert run.server_loop.membership.absent == {1}
    steps = [row for row in story(tmp_path) if row["event"] == "step"]
    assert sum(row["client"] != 1 for row in steps) == 2 * ROUNDS * STEPS
    assert [row["round"] for row in steps if row["client"] == 1] == [0, 0, 1]
    assert [row["round"] for row in story(tmp_path) if row["event"] == "round"] == list(range(ROUNDS))


@pytest.mark.slow
def test_a_client_that_rejoins_continues_with_a_later_round(place: Path, tmp_path: Path) -> None:
    site, board = site_of(place, **fault_tolerance(min_clients=3)), SessionRouter()
    nodes = nodes_of(site, tmp_path)
    with Run(site, tmp_path, Silent()) as run:
        board.connect(run.server_loop)
        threads = [start(node, Wire(board, 7 if node.client == 1 else None)) for node in nodes]
        threads[1].join(60)
        run.server_loop.membership.lost(1)
        threads[1] = start(nodes_of(site, tmp_path)[1], Wire(board))  # its memory is gone, its shelf is not
        for thread in threads:
            thread.join(60)
        assert set(run.server_loop.membership.left) == {0, 1, 2}
    rounds = [row["round"] for row in story(tmp_path) if row["event"] == "step" and row["client"] == 1]
    assert rounds == [0, 0, 1, 2, 2, 3, 3]


@pytest.mark.slow
def test_all_go_back_together_once_and_end_with_the_same_bits(place: Path, tmp_path: Path) -> None:
    site, board = site_of(place), SessionRouter(waits_for_restart=True)
    unbroken = play(site, tmp_path / "unbroken")
    assert unbroken is not None
    folder = tmp_path / "back"
    folder.mkdir()
    nodes = nodes_of(site, folder)
    with Run(site, folder, Silent()) as run:
        board.connect(run.server_loop)
        threads = [start(node, Wire(board, 7 if node.client == 2 else None)) for node in nodes]
        threads[2].join(60)
        threads[2] = start(nodes_of(site, folder)[2], Wire(board))
        until(lambda: board.rejoining() == {2})
        board.disconnect(RejoinRequired("client 2 was lost"))
    with Run(site, folder, Silent(), CheckpointStore(folder / "checkpoint").newest()) as run:
        board.connect(run.server_loop)
        for thread in threads:
            thread.join(60)
        got = run.trained()
    assert board.rejoining() == frozenset()
    assert all(torch.equal(got[name], value) for name, value in unbroken.items())
    assert story(folder) == story(tmp_path / "unbroken")


class Asked:
    """A server that hears the question where to go on, and says no more."""

    def __init__(self) -> None:
        self.asked = Join()

    def request(self, frame: bytes) -> bytes:
        asked, _ = decode(frame)
        assert isinstance(asked, Join)
        self.asked = asked
        raise PeerLost("cut")


def back_at_round_4(site: Experiment, folder: Path) -> ClientNode:
    """A client whose process died in round 1, come back for round 4."""
    before = nodes_of(site, folder)[0]
    before.skip_round(0)
    before.skip_round(1)  # keeps what it was after round 0, and dies
    back = nodes_of(site, folder)[0]
    back.restore(4)
    return back


@pytest.mark.slow
def test_a_client_that_stores_its_state_again_does_not_gain_rounds(place: Path, tmp_path: Path) -> None:
    site = site_of(place)
    back = back_at_round_4(site, tmp_path)
    back.begin(4)  # keeps what it still is, and dies
    asked = Asked()
    with pytest.raises(PeerLost):
        nodes_of(site, tmp_path)[0].join(asked)
    assert [completed_before(asked.asked, round_index) for round_index in (0, 1, 4)] == [-1, 0, 0]


@pytest.mark.slow
def test_a_client_that_is_ahead_says_how_old_that_is_to_which_it_goes_back(
    place: Path, tmp_path: Path
) -> None:
    site = site_of(place)
    back = back_at_round_4(site, tmp_path)
    back.skip_round(4)  # keeps after round 3 what it was after round 0
    back.skip_round(5)  # the server dies, and its last checkpoint is of round 3
    asked = Asked()
    with pytest.raises(PeerLost):
        back.join(asked)
    assert [completed_before(asked.asked, round_index) for round_index in (4, 5)] == [0, 4]


def test_a_client_that_was_asked_to_repeat_its_request_is_not_lost(place: Path, tmp_path: Path) -> None:
    site, board = site_of(place), SessionRouter(waits_for_restart=True)
    with Run(site, tmp_path, Silent()) as run:
        board.connect(run.server_loop)
        told, fresh = nodes_of(site, tmp_path)[:2]
        for node in (told, fresh):
            assert node.join(Wire(board)) == 0
        assert told.join(Wire(board), is_invited=True) == 0

        def come_again() -> None:
            with suppress(PeerLost):
                fresh.join(Wire(board))

        waits = threading.Thread(target=come_again)
        waits.start()
        until(lambda: board.rejoining() == {1})
        board.disconnect(PeerLost("client 1 was lost"))
        waits.join(60)
        assert not waits.is_alive()


def test_settings_for_survival_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"rollback' needs fault_tolerance\.checkpoint_every"):
        FaultToleranceConfig(on_loss="rollback", checkpoint_every=0)
