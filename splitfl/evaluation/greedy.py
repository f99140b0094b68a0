"""The likeliest continuations of many prompts, in batches."""

# B batch, T tokens

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 64


def continuations(
    model: Any, tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[Sequence[int]], longest: int
) -> list[str]:
    """What a language model writes after each of these: it ends, or prompt and text are `longest` tokens.

    Of an encoder-decoder the text alone may have that many.
    """
    texts: list[str] = []
    has_decoder = model.config.is_encoder_decoder
    for first in range(0, len(prompts), BATCH):
        given = tokenizer.pad(
            {"input_ids": [list(ids) for ids in prompts[first : first + BATCH]]},
            return_tensors="pt",
            padding_side="right" if has_decoder else "left",
        ).to(model.device)
        length = 0 if has_decoder else given["input_ids"].shape[1]
        with torch.inference_mode():
            ids_BT = model.generate(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                max_new_tokens=max(1, longest - length),
                do_sample=False,
                use_cache=True,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        texts += tokenizer.batch_decode(ids_BT[:, length:], skip_special_tokens=True)
    return texts
