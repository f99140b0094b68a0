"""Every message that may travel, of every kind of tensor, for hypothesis to choose from."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from splitfl.core.messages import LOST, Activation, Adapter, Control, Gradient, Lost, Message, Output, Scalars
from splitfl.wire import Envelope, Refusal

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32, torch.bool)
NUMBERS = st.integers(0, 2**40)
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


CONTROLS = st.builds(
    Control,
    ask=st.text(max_size=20),
    round=NUMBERS,
    steps=NUMBERS,
    values=st.dictionaries(st.text(max_size=10), FLOATS, max_size=3),
)
ACTIVATIONS = st.builds(
    Activation,
    ids_B=tensors(),
    hidden=st.none() | tensors(),
    context=_named(),
    labels=st.none() | tensors(),
)
OUTPUTS = st.builds(Output, ids_B=tensors(), hidden=tensors())
GRADIENTS = st.builds(Gradient, ids_B=tensors(), grad=tensors(), loss=st.none() | FLOATS)
ADAPTERS = st.builds(
    Adapter,
    version=NUMBERS,
    samples=NUMBERS,
    losses=st.lists(FLOATS, max_size=3).map(tuple),
    tensors=_named(),
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
    Control: CONTROLS,
    Activation: ACTIVATIONS,
    Output: OUTPUTS,
    Gradient: GRADIENTS,
    Scalars: SCALARS,
    Adapter: ADAPTERS,
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
