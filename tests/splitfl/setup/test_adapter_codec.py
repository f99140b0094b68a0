"""Adapters cross as encoded differences, and both ends always agree on what a client holds."""

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.local_clients import run_here
from experiments.report.codecs import codec_cells
from splitfl.config import RunConfig
from splitfl.controller.cost_table import ClientMemory
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import Adapter, AdapterDelta, Begin, Done
from splitfl.methods.compatibility import check
from splitfl.methods.parts.method import Turn
from splitfl.runtime.screen import Silent
from splitfl.setup.adapter_codec import EncodingClient, EncodingServer
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.methods.losing import Losing

# torch itself compiles what forward mode needs the first time it is used, in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

ROUNDS = {"clients": 2, "rounds": 4, "local_steps": 1}
CODECS = {"adapter_up": "uniform:step=0.75:block=16", "adapter_down": "int8"}
DEPTHS: dict[str, Any] = {"partition": {"cut": 1}, "adapter": {"head": {"rank": 2}, "body": {"rank": 2}}}
BOTH_WAYS = frozenset({(0, "down", 3), (1, "up", 2), (0, "up", 5)})  # begins, uploads and their replies
# A client's messages are its Begin, an activation and its upload, round after round.

place = toy.place(is_base=True, rows=40)


def site(place: Path, codec: dict[str, Any], **tables: dict[str, Any]) -> Experiment:
    return Experiment.of(toy.config(place, codec=codec, **{"federation": ROUNDS, **tables}))


def assert_agree(run: Played) -> None:
    """Every client holds what the server believes that it holds."""
    for client, node in enumerate(run.nodes):
        ours, theirs = node._method, run.server
        assert isinstance(ours, EncodingClient)
        assert isinstance(theirs, EncodingServer)
        held = theirs._held[client][ours._version]
        assert held.keys() == ours._held.keys()
        assert all(torch.equal(held[name], value) for name, value in ours._held.items())


def test_differences_cross_and_lost_messages_do_not_separate_the_ends(place: Path, tmp_path: Path) -> None:
    run = play(site(place, CODECS), tmp_path, Losing(BOTH_WAYS))
    assert_agree(run)
    up = [type(message) for *_, message, _ in run.said if isinstance(message, Adapter | AdapterDelta)]
    assert up == [AdapterDelta] * 8
    down = [type(reply) for *_, message, reply in run.said if isinstance(message, Begin)]
    assert down.count(AdapterDelta) == 5  # six begins after the first round's, of which one is not answered
    assert {row["kind"] for row in run.rows("transfer")} == {"Activation", "Gradient", "Adapter", "Control"}


@pytest.mark.parametrize(
    "codec",
    quick([{"adapter_up": "int4"}, {"adapter_down": "int8"}, CODECS], {"adapter_up": "int4"}),
    ids=str,
)
@pytest.mark.parametrize(
    ("name", "tables"),
    quick(
        [
            ("sfl-v2", {}),
            ("sfl-v2", {"federation": {**ROUNDS, "aggregator": "ffa", "schedule": "buffered", "buffer": 1}}),
            ("sfl-v2", {"federation": {**ROUNDS, "client_cuts": [1, 3]}, **DEPTHS}),
            ("sfl-v1", {}),
            ("ushape", {"partition": {"cut": 1, "tail_blocks": 1}}),
            ("cse-fsl", {"method": {"name": "cse-fsl", "auxiliary_blocks": 1}}),
            ("fedlora", {}),
            ("spry", {}),
            ("mu-splitfed", {}),
        ],
        ("sfl-v2", {}),
    ),
)
def test_the_ends_agree_with_every_method_that_averages_adapters(
    name: str, tables: dict[str, Any], codec: dict[str, Any], place: Path, tmp_path: Path
) -> None:
    run = play(site(place, codec, **{"method": {"name": name}, **tables}), tmp_path)
    assert_agree(run)
    assert len(run.losses) >= 4


def test_fine_differences_train_as_exact_ones(place: Path, tmp_path: Path) -> None:
    exact = play(site(place, {}), tmp_path)
    fine = play(site(place, {"adapter_up": "int8", "adapter_down": "int8"}), tmp_path)
    assert fine.losses != exact.losses
    assert fine.losses == pytest.approx(exact.losses, rel=1e-2)


def test_a_client_that_lost_its_state_gets_whole_values(place: Path, tmp_path: Path) -> None:
    one = site(place, CODECS)
    server = play(one, tmp_path).server
    turn = Turn(client=0, round=4, lap=0, position=100)
    answer = server.compute(turn, Begin(steps=2, version=0))  # of which the server knows no more
    assert isinstance(answer.reply, Adapter)
    server.commit(turn, answer)
    fresh = one.client_method(0)
    steps = fresh.round(4)
    next(steps)
    steps.send(answer.reply)
    assert isinstance(fresh, EncodingClient)
    assert isinstance(server, EncodingServer)
    held = server._held[0][answer.reply.version]
    assert all(torch.equal(held[name], value) for name, value in fresh._held.items())


def test_an_upload_from_an_unknown_version_is_ignored_with_a_warning(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = play(site(place, CODECS), tmp_path)
    delta = next(message for *_, message, _ in run.said if isinstance(message, AdapterDelta))
    turn = Turn(client=0, round=4, lap=2, position=100)
    assert run.server.compute(turn, delta).reply == Done()
    assert "ignored an update of client 0 from unknown version 0" in caplog.text
    with pytest.raises(WireError, match="client 0 must encode its adapters by 'uniform"):
        run.server.compute(turn, Adapter(version=0, tensors={}))


def test_a_plan_has_the_memory_of_adapters_held_and_of_their_errors(place: Path) -> None:
    def memory(codec: dict[str, Any]) -> ClientMemory:
        return run_dry(site(place, codec)).client

    one, held = site(place, {}).client_method(0).state(), memory({"adapter_down": "int8"}).codec_bytes
    trained = sum(value.nbytes for name, value in one.items() if name.startswith("value."))
    assert (memory({}).codec_bytes, held) == (0, trained)
    fed_back = memory({"adapter_up": "int8"})
    assert fed_back.codec_bytes > held
    assert fed_back.total_bytes == memory({}).total_bytes + fed_back.codec_bytes


def settings(**tables: dict[str, Any]) -> RunConfig:
    return from_dict({"codec": CODECS, **tables})


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (
            settings(method={"name": "hybrid"}),
            r"'hybrid' does not read codec.adapter_up: .* it is read by sfl-v2, .*; 'hybrid' exchanges no "
            "adapters whose differences",
        ),
        (
            settings(method={"name": "fsl-sage"}),
            r"'fsl-sage' does not read codec.adapter_down: .* sends each client an auxiliary of its own",
        ),
        (settings(federation={"aggregator": "stack"}), r"federation.aggregator must be 'ffa' or .* 'stack'"),
        (
            settings(federation={"client_ranks": [4, 8, 8], "clients": 3}),
            r"federation.client_ranks must be \[\] with codec.adapter_up",
        ),
    ],
)
def test_what_sends_no_differences_refuses_their_codecs(config: RunConfig, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check(config, "sequence-classification", 12, "bert")


def test_error_feedback_needs_a_codec(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"codec.error_feedback is read only with codec.adapter_up"):
        site(place, {"error_feedback": False})


def test_a_run_measures_its_codecs(place: Path, tmp_path: Path) -> None:
    one = site(place, {**CODECS, "activation": "int8", "gradient": "topk:k=8+int8+huffman"})
    _, summary = run_here(one, lambda: tmp_path, Silent())
    rows = {row["kind"]: row for row in summary["codecs"]}
    assert rows.keys() == {"activation", "gradient", "adapter_up", "adapter_down"}
    assert rows["adapter_up"]["relative_error"] == pytest.approx(0.25, abs=0.1)
    assert rows["activation"]["bits"] == 8.0 + 32.0 / 32
    (cells,) = [one for one in codec_cells(summary["codecs"]) if one[0] == "activation"]
    assert cells[1] == "int8"
    assert cells[3] == "9.00"
