"""The rows of models of images and texts, of which the text side is split.

A text passes through the wrapper's own code, which computes positions and masks, and through the text
model inside it; the towers of other modalities are in no piece.
"""

from dataclasses import replace
from typing import Final

from splitfl.models.family import CAUSAL_LM, Family

_WRAPPER = Family(
    blocks="language_model.layers",
    before=("language_model.embed_tokens",),
    after=("language_model.norm",),
    reads=("q_proj", "k_proj", "v_proj"),
    targets=("q_proj", "v_proj"),
    kinds=(CAUSAL_LM,),
    nested="text_config",
    unused=("vision_tower", "multi_modal_projector", "image_newline"),
)
_LLAVA = replace(_WRAPPER, texts=("llama", "mistral", "qwen2", "qwen3"))
_QWEN = replace(_WRAPPER, unused=("visual",), separates_packed=False)
_SMOLVLM = replace(
    _WRAPPER,
    blocks="text_model.layers",
    before=("text_model.embed_tokens",),
    after=("text_model.norm",),
    unused=("vision_model", "connector"),
    texts=("llama",),
)

WRAPPERS: Final[dict[str, Family]] = {
    "gemma3": replace(_WRAPPER, texts=("gemma3_text",)),
    "qwen2_vl": replace(_QWEN, texts=("qwen2_vl_text",)),
    "qwen2_5_vl": replace(_QWEN, texts=("qwen2_5_vl_text",)),
    "qwen3_vl": replace(_QWEN, texts=("qwen3_vl_text",)),
    "llava": _LLAVA,
    "llava_next": _LLAVA,
    "llava_onevision": _LLAVA,
    "internvl": _LLAVA,
    "mistral3": replace(_WRAPPER, texts=("mistral", "ministral3")),
    "paligemma": replace(_WRAPPER, texts=("gemma", "gemma2"), separates_packed=False),
    "idefics3": _SMOLVLM,
    "smolvlm": _SMOLVLM,
}
"""By `model_type`."""
