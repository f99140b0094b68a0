"""Whatever is lost, repeated, reordered or restored, what a receiver accepts is what its sender meant."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitfl.config import CodecConfig
from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import LOST, Activation, Done, Gradient, Reply, UnknownReference
from splitfl.wire import Envelope, Frame
from splitfl.wire.codec_meter import EVERY, CodecMeter
from splitfl.wire.codecs.chain import codec_of, keyed_of
from splitfl.wire.keyed import ReceivedReferences, SentReferences
from splitfl.wire.reference_rows import unpacked
from splitfl.wire.rows import decode_rows, encode_rows

WIDTH, SAMPLES = 16, 4
MASK_BT = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
ENVELOPE = Envelope(client=0, round=0, lap=1)
CLIENT = 3


def activation(hidden_NtD: Tensor, *samples: int) -> Activation:
    """These samples' rows of those of all samples, packed."""
    ids = list(samples) or list(range(SAMPLES))
    rows = torch.split(hidden_NtD, MASK_BT.sum(1).tolist())
    return Activation(
        ids_B=torch.tensor(ids), hidden=torch.cat([rows[at] for at in ids]), context={"mask": MASK_BT[ids]}
    )


def hidden(seed: int) -> Tensor:
    return torch.randn(int(MASK_BT.sum()), WIDTH, generator=torch.Generator().manual_seed(seed))


def sent(sender: SentReferences, message: Activation, chain: str = "delta+int8") -> bytes:
    return sender.encode(message, ENVELOPE, CodecConfig(activation=chain))


def taken(receiver: ReceivedReferences, frame: bytes) -> Activation | None:
    message = Frame(frame).message()
    assert isinstance(message, Activation)
    return receiver.received(CLIENT, message)


def rows_in(message: Activation | None) -> Tensor:
    assert message is not None
    assert message.hidden is not None
    assert message.reference_B is None
    return message.hidden


def exchanged(
    sender: SentReferences, receiver: ReceivedReferences, message: Activation, chain: str = "delta+int8"
) -> Tensor:
    """The rows of a message that arrives and is answered."""
    got = rows_in(taken(receiver, sent(sender, message, chain)))
    sender.answered(Done())
    return got


class Ends:
    """Both ends of a channel on which anything may happen, and what was saved of them."""

    def __init__(self) -> None:
        self.sender, self.receiver = SentReferences(), ReceivedReferences()
        self.frames: list[tuple[bytes, Tensor]] = []
        self.saved: list[tuple[Any, Any]] = [({}, {})]

    def send(self, message: Activation, fate: str, chosen: int) -> None:
        assert message.hidden is not None
        frame = sent(self.sender, message)
        self.frames.append((frame, message.hidden))
        if fate == "an older one first":
            self.receive(*self.frames[chosen % len(self.frames)])
        reply: Reply = LOST if fate == "lost" else self.receive(frame, message.hidden)
        received = self.sender.answered(LOST if fate == "reply lost" else reply)
        if isinstance(received, Done):
            self.assert_one_reference(message.ids_B.tolist())

    def receive(self, frame: bytes, meant: Tensor) -> Reply:
        """Rows of different messages have nothing in common: a wrong reference would be off by far."""
        got = taken(self.receiver, frame)
        if got is None:
            return UnknownReference()
        assert (rows_in(got) - meant).abs().max() < 0.05
        return Done()

    def assert_one_reference(self, samples: list[int]) -> None:
        held = unpacked(self.receiver.state())
        for (sample, slot, _), reference in unpacked(self.sender.state()).items():
            if sample in samples:
                assert held[CLIENT, sample, slot].digest == reference.digest

    def save(self) -> None:
        self.saved.append((self.sender.state(), self.receiver.state()))

    def restore(self, side: str, chosen: int) -> None:
        sender, receiver = self.saved[chosen % len(self.saved)]
        if side != "receiver":
            self.sender = SentReferences()
            self.sender.restore(sender)
        if side != "sender":
            self.receiver = ReceivedReferences()
            self.receiver.restore(receiver)


FATES = ("delivered", "lost", "reply lost", "an older one first")
ACTS = st.one_of(
    st.tuples(
        st.sampled_from(FATES),
        st.lists(st.integers(0, SAMPLES - 1), min_size=1, max_size=SAMPLES, unique=True),
        st.integers(0, 99),
    ),
    st.tuples(st.just("save"), st.just([]), st.just(0)),
    st.tuples(st.sampled_from(["sender", "receiver", "both"]), st.just([]), st.integers(0, 99)),
)


@settings(max_examples=30)
@given(st.lists(ACTS, max_size=24))
def test_no_loss_order_or_restart_makes_an_end_add_to_other_rows(
    acts: list[tuple[str, list[int], int]],
) -> None:
    ends = Ends()
    for at, (act, samples, chosen) in enumerate(acts):
        if act in FATES:
            ends.send(activation(hidden(at), *samples), act, chosen)
        elif act == "save":
            ends.save()
        else:
            ends.restore(act, chosen)
    for seed in (100, 101):  # an unknown reference costs one message
        last = activation(hidden(seed))
        ends.send(last, "delivered", 0)
    assert taken(ends.receiver, sent(ends.sender, last)) is not None


def test_the_error_is_that_of_the_difference() -> None:
    """A tenth of the rows changes from time to time: so does a tenth of the error remain."""
    sender, receiver, now = SentReferences(), ReceivedReferences(), hidden(0)
    first = exchanged(sender, receiver, activation(now), "delta+uniform:step=0.75")
    assert torch.equal(first, decode_rows(encode_rows(now, "uniform:step=0.75"), 1 << 20))
    for step in range(1, 6):
        now = now + 0.1 * hidden(step)
        got = exchanged(sender, receiver, activation(now), "delta+uniform:step=0.75")
    assert (first - hidden(0)).norm() / hidden(0).norm() == pytest.approx(0.21, abs=0.02)
    assert (got - now).norm() / now.norm() == pytest.approx(0.021, abs=0.006)


@pytest.mark.parametrize(
    "chain", ["bf16", "int8", "int4", "uniform:step=1.5", "topk:fraction=0.25+int8", "lowrank:rank=4+int8"]
)
def test_whole_rows_and_differences_have_the_same_size(chain: str) -> None:
    sender, receiver = SentReferences(), ReceivedReferences()
    sizes = set()
    for step in range(3):
        frame = sent(sender, activation(hidden(step)), f"delta:every=2+{chain}")
        assert Frame(frame).codec == chain
        sizes.add(len(frame))
        taken(receiver, frame)
        sender.answered(Done())
    assert len(sizes) == 1


def test_a_meter_measures_differences_against_whole_rows() -> None:
    sender, meter = SentReferences(), CodecMeter()
    for _ in range(EVERY):  # of which the first is measured, which is whole
        sender.encode(activation(hidden(0)), ENVELOPE, CodecConfig(activation="delta+int4"), meter)
        sender.answered(Done())
    (first,) = meter.uses()
    sender.encode(activation(hidden(0)), ENVELOPE, CodecConfig(activation="delta+int4"), meter)
    (both,) = meter.uses()
    assert (both.kind, both.codec) == ("activation", "delta+int4")
    assert both.power == 2 * first.power == pytest.approx(2 * float(hidden(0).square().sum()))
    assert first.error < both.error < 1.01 * first.error


def whole(frame: bytes) -> list[bool]:
    """Of each sample of a frame, whether its rows are whole."""
    message = Frame(frame).message()
    assert isinstance(message, Activation)
    assert message.reference_B is not None
    return [name < 4 for name in message.reference_B.tolist()]


def test_every_so_often_rows_are_whole() -> None:
    for every, expected in ((0, [1, 0, 0, 0, 0, 0, 0]), (3, [1, 0, 0, 1, 0, 0, 1])):
        sender, seen = SentReferences(), []
        for step in range(7):
            seen.append(all(whole(sent(sender, activation(hidden(step)), f"delta:every={every}+int8"))))
            sender.answered(Done())
        assert seen == [bool(one) for one in expected]


def test_a_sample_of_another_length_is_sent_whole() -> None:
    sender, receiver = SentReferences(), ReceivedReferences()
    exchanged(sender, receiver, activation(hidden(0)))
    longer = Activation(ids_B=torch.tensor([0, 1]), hidden=torch.randn(2, 3, WIDTH))
    frame = sent(sender, longer)
    assert whole(frame) == [False, True]
    assert rows_in(taken(receiver, frame)).shape == (2, 3, WIDTH)


def test_an_unknown_reference_is_forgotten_and_the_step_lost() -> None:
    sender, receiver = SentReferences(), ReceivedReferences()
    exchanged(sender, receiver, activation(hidden(0)))
    frame = sent(sender, activation(hidden(1), 2, 3))
    assert taken(ReceivedReferences(), frame) is None
    assert sender.answered(UnknownReference()) is LOST
    assert whole(sent(sender, activation(hidden(2)))) == [False, False, True, True]


def test_other_clients_have_other_references() -> None:
    sender, receiver = SentReferences(), ReceivedReferences()
    exchanged(sender, receiver, activation(hidden(0)))
    message = Frame(sent(sender, activation(hidden(1)))).message()
    assert isinstance(message, Activation)
    assert receiver.received(CLIENT + 1, message) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rows_keep_their_type(dtype: torch.dtype) -> None:
    sender, receiver = SentReferences(), ReceivedReferences()
    for step in range(2):
        got = exchanged(sender, receiver, activation(hidden(step).to(dtype)))
        assert got.dtype == dtype
        assert (got - hidden(step).to(dtype)).abs().max() < 0.06


def test_references_take_a_byte_a_number_and_survive_a_checkpoint() -> None:
    sender, receiver = SentReferences(), ReceivedReferences()
    exchanged(sender, receiver, activation(hidden(0)))
    assert sender.nbytes == int(MASK_BT.sum()) * (WIDTH + 4)
    again, same = SentReferences(), ReceivedReferences()
    again.restore(sender.state())
    same.restore(receiver.state())
    message = activation(hidden(1), 1, 3)
    assert sent(again, message) == (frame := sent(sender, message))
    assert torch.equal(rows_in(taken(same, frame)), rows_in(taken(receiver, frame)))
    with pytest.raises(ConfigError, match="no valid index of references"):
        again.restore({**sender.state(), "index": torch.zeros(3)})


def test_messages_of_other_kinds_and_codecs_are_unchanged() -> None:
    sender, message = SentReferences(), activation(hidden(0))
    plain = Frame(sent(sender, message, "int8")).message()
    assert isinstance(plain, Activation)
    assert plain.reference_B is None
    known = Frame(sent(sender, Activation(ids_B=torch.arange(2)))).message()
    assert isinstance(known, Activation)
    assert known.reference_B is None
    gradient = Gradient(ids_B=torch.arange(2), grad=torch.ones(2, 3))
    assert isinstance(
        Frame(sender.encode(gradient, ENVELOPE, CodecConfig(activation="delta+int8"))).message(), Gradient
    )


NAMES = torch.full((SAMPLES,), 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"reference_B": NAMES[:2]}, r"4 samples must have as many references of type torch.int64, got"),
        ({"reference_B": NAMES.int()}, r"references of type torch.int64, got torch.int32 \[4\]"),
        ({"reference_B": -NAMES}, "a reference must be a slot with the digest of rows or 2 or 3, got -2"),
        ({"reference_B": NAMES + 4}, "a reference must be a slot with the digest of rows or 2 or 3, got 6"),
        ({"hidden": None}, "an activation with references must have rows, and int64 sample numbers of one"),
        ({"ids_B": torch.arange(4)[:, None]}, "must have rows, and int64 sample numbers of one axis"),
        ({"ids_B": torch.zeros(4)}, "must have rows, and int64 sample numbers of one axis"),
        ({"hidden": torch.ones(5, WIDTH)}, "of 4 samples has 5 rows, must have 9 by its mask"),
        ({"ids_B": torch.arange(3)}, "of 3 samples has 9 rows, must have 9 by its mask"),
        ({"context": {}}, "of 4 samples has 9 rows, must have equally many of each"),
        ({"context": {"mask": torch.tensor(1)}}, "of 4 samples has 9 rows, must have 0 by its mask"),
    ],
)
def test_numbers_of_samples_references_and_rows_that_do_not_fit_are_refused(
    change: dict[str, Any], sentence: str
) -> None:
    receiver = ReceivedReferences()
    with pytest.raises(WireError, match=sentence):
        receiver.received(CLIENT, replace(activation(hidden(0)), **{"reference_B": NAMES, **change}))
    assert not receiver.state()


def test_a_truncated_frame_is_refused_and_changes_nothing() -> None:
    sender, receiver = SentReferences(), ReceivedReferences()
    frame = sent(sender, activation(hidden(0)))
    for size in (len(frame) - 1, len(frame) // 2):
        with pytest.raises(WireError, match=r"is damaged|no readable header|invalid header length"):
            taken(receiver, frame[:size])
    assert not receiver.state()


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ("delta", r"'delta' must be followed by one that rounds the differences, as in 'delta\+int8'"),
        ("delta+none", "must be followed by one that rounds the differences"),
        ("delta:every=1+int8", "delta: every must be 0 or at least 2, got 1"),
        ("delta:every=-3+int8", "delta: every must be 0 or at least 2, got -3"),
        ("delta:each=3+int8", "the codec 'delta' has no option 'each'; it has every"),
    ],
)
def test_a_chain_with_a_bad_keyed_codec_is_refused(chain: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        keyed_of(chain)


@pytest.mark.parametrize("chain", ["int8+delta", "delta+int8", "delta", "delta+delta+int8"])
def test_no_codec_of_rows_has_a_keyed_one_in_it(chain: str) -> None:
    with pytest.raises(ConfigError, match="a chain of codecs is a projection or none, a codec of rows"):
        codec_of(chain)
