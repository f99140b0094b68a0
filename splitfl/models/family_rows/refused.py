"""Model types that are refused with a reason: a plain row for them would fail, or be silently wrong."""

from typing import Final

_AUDIO = "its encoder reads audio features, which no task here has"
_GLOBAL = "tokens of its encoder attend globally by a mask of the user's, which no task here has"
_CAPACITY = (
    "its experts drop tokens beyond their capacity, so that the result of a token depends on the rest of the "
    "batch"
)
_SEVERAL_MODALITIES = (
    "its language model is configured and stored inside a model of several modalities; use a checkpoint of a "
    "language model alone"
)
_PATCHES = "its images are lists of patches with shapes and masks, which no task here has"
_EMBEDDINGS_PER_BLOCK = (
    "its blocks read embeddings of the tokens, and keys and values of earlier blocks, which do not cross the "
    "cut"
)

REFUSED: Final[dict[str, str]] = {
    "whisper": _AUDIO,
    "led": _GLOBAL,
    **dict.fromkeys(("switch_transformers", "nllb-moe"), _CAPACITY),
    **dict.fromkeys(
        (
            "gemma3n",
            "gemma4",
            "llama4",
            "mllama",
        ),
        _SEVERAL_MODALITIES,
    ),
    "siglip2": _PATCHES,
    **dict.fromkeys(("gemma3n_text", "gemma4_text"), _EMBEDDINGS_PER_BLOCK),
    "albert": "all its blocks have the same parameters, which pieces would train apart",
    "swinv2": "its windows are those of the configuration's image size, and no equality test covers it",
}
"""The reason for each `model_type`."""
