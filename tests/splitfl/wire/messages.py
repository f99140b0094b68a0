"""Every message that may travel, of every kind of tensor, for hypothesis to choose from."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from splitfl.core.messages import (
    LOST,
    Absent,
    Activation,
    Adapter,
    AdapterDelta,
    Begin,
    CodecUse,
    Done,
    Gradient,
    Join,
    Joined,
    Leave,
    Lost,
    Message,
    NotSelected,
    Output,
    Plan,
    RunOver,
    Scalars,
    Skip,
    UnknownReference,
    WeightGradients,
)
from splitfl.wire import Envelope, Refusal

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32, torch.bool)
NUMBERS = st.integers(0, 2**40)
SUMS = st.floats(0, 1e30)
FLOATS = st.floats(allow_nan=False, width=64)
NAMES = st.text("abcdefgh_.0123456789", min_size=1, max_size=20)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any tensor of up to three dimensions: a single number, none at all, a strided view."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    tensor = torch.randint(-100, 100, shape, generator=chance).to(dtype)
    if tensor.is_floating_point():
        tensor = tensor / 7
    return tensor.T if tensor.ndim == 2 and draw(st.booleans()) else tensor


def _named() -> st.SearchStrategy[dict[str, Tensor]]:
    return st.dictionaries(NAMES, tensors(), max_size=3)


PLANS = st.none() | st.builds(
    Plan, method=st.text(max_size=20), cut=NUMBERS, rank=NUMBERS, codec=st.text(max_size=20)
)
CONTROLS: dict[type, st.SearchStrategy[Message]] = {
    Begin: st.builds(
        Begin,
        steps=NUMBERS,
        version=NUMBERS,
        aligned_round=NUMBERS,
        flops_per_s=st.none() | FLOATS,
        is_finite=st.booleans(),
    ),
    NotSelected: st.just(NotSelected()),
    Skip: st.just(Skip()),
    Absent: st.builds(Absent, rounds=NUMBERS),
    Join: st.builds(
        Join,
        checkpoints=st.lists(st.tuples(NUMBERS, st.integers(-1, 2**20)), max_size=3).map(tuple),
        is_invited=st.booleans(),
    ),
    Joined: st.builds(Joined, round=NUMBERS),
    Leave: st.builds(
        Leave,
        peak_bytes=st.none() | NUMBERS,
        base_bytes=st.none() | NUMBERS,
        codecs=st.lists(
            st.builds(
                CodecUse,
                kind=st.text(max_size=9),
                codec=st.text(max_size=9),
                values=NUMBERS,
                coded_bytes=NUMBERS,
                entropy_bits=st.none() | SUMS,
                error=SUMS,
                power=SUMS,
                encode_s=SUMS,
                decode_s=SUMS,
            ),
            max_size=2,
        ).map(tuple),
    ),
    Done: st.builds(Done, plan=PLANS, first_batch=NUMBERS),
    RunOver: st.just(RunOver()),
    UnknownReference: st.just(UnknownReference()),
}
ACTIVATIONS = st.builds(
    Activation,
    ids_B=tensors(),
    hidden=st.none() | tensors(),
    context=_named(),
    labels=st.none() | tensors(),
    reference_B=st.none() | tensors(),
)
OUTPUTS = st.builds(Output, ids_B=tensors(), hidden=tensors())
GRADIENTS = st.builds(Gradient, ids_B=tensors(), grad=tensors(), loss=st.none() | FLOATS)
ADAPTERS = st.builds(
    Adapter,
    version=NUMBERS,
    samples=NUMBERS,
    losses=st.lists(FLOATS, max_size=3).map(tuple),
    tensors=_named(),
    plan=PLANS,
    first_batch=NUMBERS,
)
DELTAS = st.builds(
    AdapterDelta,
    version=NUMBERS,
    base=NUMBERS,
    which=tensors(),
    checksum=tensors(),
    samples=NUMBERS,
    losses=st.lists(FLOATS, max_size=3).map(tuple),
    tensors=_named(),
    first_batch=NUMBERS,
)
WEIGHT_GRADIENTS = st.builds(
    WeightGradients,
    version=NUMBERS,
    gradients=_named(),
    state=_named(),
    labels=NUMBERS,
    samples=NUMBERS,
    losses=st.lists(FLOATS, max_size=3).map(tuple),
)
SCALARS = st.builds(
    Scalars,
    round=NUMBERS,
    values=tensors(),
    steps=st.lists(NUMBERS, max_size=3).map(tuple),
    samples=NUMBERS,
    losses=st.lists(FLOATS, max_size=3).map(tuple),
)
REFUSALS = st.builds(Refusal, reason=st.text(max_size=40))
KINDS: dict[type, st.SearchStrategy[Message | Lost | Refusal]] = {
    **CONTROLS,
    Activation: ACTIVATIONS,
    Output: OUTPUTS,
    Gradient: GRADIENTS,
    Scalars: SCALARS,
    Adapter: ADAPTERS,
    AdapterDelta: DELTAS,
    WeightGradients: WEIGHT_GRADIENTS,
    Lost: st.just(LOST),
    Refusal: REFUSALS,
}
ANY = st.one_of(*KINDS.values())
ENVELOPES = st.builds(
    Envelope,
    client=st.integers(-1, 2**20),
    round=st.integers(-1, 2**20),
    lap=st.integers(-1, 2**20),
    flops=st.floats(0, 1e30),
)
