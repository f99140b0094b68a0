"""Runs whose activations cross as differences from earlier ones of the same samples."""

import random
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from splitfl.config import RunConfig
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.core.messages import LOST, Activation, Message, UnknownReference
from splitfl.setup.codecs import check_fixed_sizes, describe_codecs
from splitfl.setup.experiment import Experiment
from splitfl.wire import Envelope, decode
from splitfl.wire.keyed import ReceivedReferences, SentReferences
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.server import test_absences, test_fault_tolerance

FEDERATION = {"clients": 2, "rounds": 5, "local_steps": 2}
CODEC = {"activation": "delta:every=4+int8"}
LOSSY = {"mtu_bytes": 1500, "max_tries": 1, "up": {"loss_rate": 0.1}, "down": {"loss_rate": 0.1}}
CHOICES = {"activation": "delta+uniform:step=0.75+huffman", "gradient": "int4"}

place = toy.place(is_base=True, rows=40)


def config(place: Path, **tables: Any) -> RunConfig:
    return toy.config(place, **{"federation": FEDERATION, "codec": CODEC, **tables})


class Observed:
    """Writes down the relative error of each activation that arrives; `at_call` may act before one does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.errors: list[float] = []
        self.at_call: dict[int, Any] = {}
        self._calls = 0
        self._sent: dict[int, Tensor] = {}
        encode, received = SentReferences.encode, ReceivedReferences.received

        def observed_encode(own: SentReferences, message: Message, envelope: Envelope, *others: Any) -> bytes:
            if isinstance(message, Activation) and message.hidden is not None:
                self._sent[envelope.client] = message.hidden
            return encode(own, message, envelope, *others)

        def observed_received(own: ReceivedReferences, client: int, message: Activation) -> Activation | None:
            self.at_call.get(self._calls, lambda own: None)(own)
            self._calls += 1
            got = received(own, client, message)
            if got is not None:
                assert got.hidden is not None
                sent = self._sent[client]
                self.errors.append(float((got.hidden - sent).norm() / sent.norm()))
            return got

        monkeypatch.setattr(SentReferences, "encode", observed_encode)
        monkeypatch.setattr(ReceivedReferences, "received", observed_received)


SCHEDULES: dict[str, dict[str, Any]] = {
    "buffered": {"schedule": "buffered", "buffer": 2},
    "anarchic": {"schedule": "anarchic", "pause_s": 0.05},
    "deadline": {"schedule": "deadline", "deadline_s": 0.05},
}
CASES: dict[str, dict[str, Any]] = {
    "sfl-v2": {},
    **{name: {"method": {"name": name}} for name in ("ushape", "hybrid", "cse-fsl", "sfl-v1")},
    "skip": {"erasure": {"activation": "skip"}},
    **{
        name: {"federation": {**FEDERATION, "aggregator": "mean", "client_flops": [1e9, 2e8], **schedule}}
        for name, schedule in SCHEDULES.items()
    },
    "cell": {"link": {"scenario": "far.toml", "mtu_bytes": 1500}, "erasure": {"activation": "skip"}},
}
FAR = """
[place]
environment = "constant"
loss_db = 120.0
users = 2
[link]
harq = "none"
max_tries = 1
"""


@pytest.mark.parametrize("case", quick(CASES, "sfl-v2"))
def test_a_server_computes_with_what_was_sent_whatever_was_lost(
    case: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far.toml").write_text(FAR)
    monkeypatch.chdir(tmp_path)
    observed = Observed(monkeypatch)
    run = play(Experiment.of(config(place, **{"link": LOSSY, **CASES[case]})), tmp_path)
    assert run.ledger.total().lost > 0
    assert len(observed.errors) > 10
    assert max(observed.errors) < 0.01
    assert min(observed.errors) < 0.002  # of a difference


def test_a_plan_says_the_bytes_and_the_memory(place: Path, tmp_path: Path) -> None:
    one = Experiment.of(config(place, codec={"activation": "delta:every=4+int4"}))
    planned, played = run_dry(one), play(one, tmp_path)
    assert planned.ledger == played.ledger
    assert [memory.codec_bytes for memory in planned.clients] == [
        node.references.nbytes for node in played.nodes
    ]
    assert planned.client.codec_bytes > 0


def test_a_server_that_lost_its_references_costs_each_sample_one_step(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    observed = Observed(monkeypatch)
    observed.at_call[9] = lambda references: references.restore({})
    run = play(Experiment.of(config(place, codec={"activation": "delta+int8"})), tmp_path)
    replies = [decode(frame)[0] for node in run.nodes for frame in node.received]
    asked = sum(isinstance(reply, UnknownReference) for reply in replies)
    assert 1 <= asked <= 8  # the batches of an epoch
    steps = [reply for _, _, message, reply in run.said if isinstance(message, Activation)]
    assert sum(reply is LOST for reply in steps) == asked
    assert len(run.losses) == len(steps) - asked
    assert caplog.text.count("unknown reference, step lost") == asked
    assert max(observed.errors) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    "tables",
    [{}, {"link": LOSSY}, {"link": {"scenario": "lab-wifi"}}, {"method": {"name": "sfl-v1", "in_flight": 2}}],
    ids=["links", "losses", "cell", "in-flight"],
)
def test_a_run_killed_twice_ends_with_the_same_bits(
    tables: dict[str, Any], place: Path, tmp_path: Path
) -> None:
    test_fault_tolerance.assert_same(place, tmp_path, [24, 14], codec=CHOICES, **tables)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_events_suffice_to_replay_a_run_with_clients_killed_at_any_time(
    seed: int, place: Path, tmp_path: Path
) -> None:
    federation = {"clients": test_absences.CLIENTS, "rounds": test_absences.ROUNDS, "local_steps": 2}
    site = Experiment.of(
        config(place, federation=federation, fault_tolerance={"on_loss": "continue"}, codec=CHOICES)
    )
    trained = test_absences.play_with_kills(site, tmp_path / "threads", random.Random(seed))
    test_absences.assert_is_replayed(site, tmp_path, trained)


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        (
            {"codec": {"gradient": "delta+int8"}},
            r"codec.gradient must not send differences, got 'delta\+int8': messages of this kind are replies",
        ),
        (
            {"codec": {"output": "delta+int8"}, "method": {"name": "ushape"}},
            "codec.output must not send differences",
        ),
        (
            {"codec": {"adapter_up": "delta+int8"}},
            r"codec.adapter_up must not send differences, got 'delta\+int8': adapters belong to no sample",
        ),
        *(
            (
                {"erasure": {"activation": policy}},
                "erasure.activation must be 'reliable' or 'skip' with codec.activation 'delta:every=4.int8', "
                f"whose rows are differences, which cannot be lost one by one; got {policy!r}",
            )
            for policy in ("mask", "zero", "rescale", "stale")
        ),
        (
            {"method": {"name": "frozen"}},
            "codec.activation must not send differences with the method 'frozen', which sends each sample's",
        ),
        ({"analog": {"kinds": ["activation"]}}, "codec.activation must be 'none' where analog.kinds has"),
        ({"method": {"name": "hosl"}}, "takes differences of losses of activations mu apart"),
        (
            {"codec": {"activation": "int8+delta"}},
            "a chain of codecs is a projection or none, a codec",
        ),
        ({"codec": {"activation": "delta:every=1+int8"}}, "delta: every must be 0 or at least 2, got 1"),
    ],
)
def test_differences_are_refused_where_they_cannot_be(
    tables: dict[str, Any], sentence: str, place: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Experiment.of(config(place, **tables))


def test_a_controller_does_not_plan_differences(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"codec.activation 'delta:every=4\+int8' needs memory for every"):
        check_fixed_sizes(config(place))


def test_a_report_says_what_was_sent(place: Path) -> None:
    assert describe_codecs(config(place)) == (
        "Messages were encoded: delta:every=4+int8 (differences from the last rows of the same "
        "sample, then 8-bit integers, one float32 scale per token) for the activation."
    )
