"""BLEU of a language model's generated texts, computed by sacrebleu."""

import importlib
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from splitfl.core.errors import ConfigError
from splitfl.data.e2e import references
from splitfl.data.examples import Examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 64


def bleu(
    model: PreTrainedModel, tokenizer: "PreTrainedTokenizerBase", held_out: Examples, longest: int
) -> float:
    """Corpus BLEU (Papineni et al., ACL'02; 0 to 100) of greedy decoding up to `longest` tokens.

    Each prompt is completed once and compared with all its references. Raises ConfigError if
    sacrebleu is not installed.
    """
    try:
        sacrebleu: Any = importlib.import_module("sacrebleu")
    except ImportError:
        raise ConfigError("BLEU needs the library sacrebleu: pip install 'splitfl[bleu]'") from None
    references_by_prompt = references(held_out.texts)
    prompts = list(references_by_prompt)
    generated = []
    for first in range(0, len(prompts), BATCH):
        generated += _generate(model, tokenizer, prompts[first : first + BATCH], longest)
    most = max(len(one) for one in references_by_prompt.values())
    streams = [
        [one[at] if at < len(one) else None for one in references_by_prompt.values()] for at in range(most)
    ]
    # E2E's texts are tokenised; `force` suppresses sacrebleu's warning about that.
    return float(sacrebleu.corpus_bleu(generated, streams, force=True).score)


def _generate(
    model: Any, tokenizer: "PreTrainedTokenizerBase", prompts: list[str], longest: int
) -> list[str]:
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    inputs = inputs.to(model.device)
    length = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        ids_BT = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max(1, longest - length),
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    texts: list[str] = tokenizer.batch_decode(ids_BT[:, length:], skip_special_tokens=True)
    return texts
