"""The rows of encoder-decoders, which are cut in the encoder.

The head is the embeddings and the first blocks of the encoder; the last piece has the rest of it, the
decoder and the language model head. Encoder states and their mask cross the cut, and labels, from which the
model itself makes the decoder's input. T5's first block owns the position bias that every block of
the encoder adds to its scores: each piece has a frozen copy.
"""

from dataclasses import replace
from typing import Final

from splitfl.models.family import SEQ2SEQ_LM, Family

_BART = Family(
    blocks="encoder.layers",
    before=(
        "shared",
        "encoder.embed_tokens",
        "encoder.embed_positions",
        "encoder.layernorm_embedding",
    ),
    after=("encoder.layer_norm", "decoder"),
    reads=("q_proj", "k_proj", "v_proj"),
    targets=("q_proj", "v_proj"),
    kinds=(SEQ2SEQ_LM,),
    pools_last=False,
    separates_packed=False,
    encoder="encoder",
    decoder="decoder",
)
_UMT5 = replace(
    _BART,
    blocks="encoder.block",
    before=("shared", "encoder.embed_tokens"),
    after=("encoder.final_layer_norm", "decoder"),
    reads=("q", "k", "v"),
    targets=("q", "v"),
    base="",
    top=("lm_head",),
    attentions_of_decoder=("SelfAttention", "EncDecAttention"),
    attentions=("sdpa",),  # with eager attention gradients of the encoder differ in their last bits
    forward_mode="its attention must be sdpa, which has no forward derivative",
)
_T5 = replace(
    _UMT5, shared=("encoder.block.0.layer.0.SelfAttention.relative_attention_bias",), shares_bias=True
)

ENCODER_DECODERS: Final[dict[str, Family]] = {
    "t5": _T5,
    "mt5": _T5,
    "umt5": _UMT5,
    "bart": _BART,
    "mbart": _BART,
    "pegasus": _BART,
    "marian": _BART,
    "m2m_100": _BART,
    "blenderbot": _BART,
}
"""By `model_type`."""
