"""What differs between families of models: one value of `Family` each (see families.py)."""

from dataclasses import dataclass
from typing import Literal

CAUSAL_LM = "causal-lm"
SEQUENCE_CLASSIFICATION = "sequence-classification"
TOKEN_CLASSIFICATION = "token-classification"
IMAGE_CLASSIFICATION = "image-classification"
SEQ2SEQ_LM = "seq2seq-lm"
KINDS = (CAUSAL_LM, SEQ2SEQ_LM, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION, IMAGE_CLASSIFICATION)
LANGUAGE_MODELS = (CAUSAL_LM, SEQ2SEQ_LM)
"""The kinds whose labels are tokens of the vocabulary, and which have no classifier."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """The modules of a model; all paths are relative to its base model (`bert`, `transformer`, ...).

    The base model is at the path `base`, by default transformers' `base_model_prefix`; where it is the model
    itself (""), `top` are the modules of its task head.

    `blocks` is the list of transformer blocks, `before` the modules that compute their input, `after`
    those that follow them, which a configuration may lack. `reads` are the projections that read
    a block's input, by the beginning of their names, `targets` LoRA's default target modules, by the end.
    `pools_last`: a sequence is classified by its last token. An encoder (`is_encoder`) is turned into
    a decoder for language modelling. `offsets_positions`: position indices up to the padding token's
    index are unused. `is_parallel`: the feed-forward part of a block reads the input of attention.
    `separates_packed`: position indices keep texts apart that are packed into one row.
    `hands_pictures`: blocks output feature maps of varying shape, whose gradients have the memory layout
    (B, H, W, C) if `channels_last`, or, if `hands_tokens`, as many tokens as the map has positions.
    `num_returned`: above 1, blocks return a tuple of that many values, which begins with the hidden state.
    `with_first`: modules that complete the first block. `shared`: modules that every block uses, of which
    each piece has a frozen copy.
    `attributes`: those of a block that the model itself reads. `bypassed`: linear modules of which kernels
    read the weights alone, so that no adapter would have an effect. `forward_mode`: True, or why the blocks
    have no derivative in forward mode. `linear`: a class of the blocks' linear modules that computes what
    torch.nn.Linear does. `has_class_token`: an image has a token besides its patches.
    `norms_embeddings`: the last norm, which has no weights, is also applied to the embeddings.
    A model of several modalities has the configuration of its blocks in `nested`; `unused` are modules that
    its inputs do not pass through, and `texts` the types of text models that it may contain.
    A model with a `decoder` is cut in its `encoder`; the decoder follows it as a whole, and its blocks have
    attention modules named `attentions_of_decoder`: to itself, and to the encoder. With `shares_bias`
    T5's first block hands its position bias to the others.
    """

    blocks: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    reads: tuple[str, ...]
    targets: tuple[str, ...]
    kinds: tuple[str, ...] = (CAUSAL_LM, SEQUENCE_CLASSIFICATION)
    attentions: tuple[str, ...] = ("sdpa", "eager")
    fan_in_fan_out: bool = False
    pools_last: bool = True
    is_encoder: bool = False
    offsets_positions: bool = False
    is_parallel: bool = False
    separates_packed: bool = True
    hands_pictures: bool = False
    channels_last: bool = False
    hands_tokens: bool = False
    has_batch_norms: bool = False
    num_returned: int = 1
    with_first: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    bypassed: tuple[str, ...] = ()
    forward_mode: Literal[True] | str = True
    linear: str = ""
    norms_embeddings: bool = False
    base: str | None = None
    top: tuple[str, ...] = ()
    has_class_token: bool = True
    nested: str = ""
    unused: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    encoder: str = ""
    decoder: str = ""
    attentions_of_decoder: tuple[str, str] = ("self_attn", "encoder_attn")
    shares_bias: bool = False
