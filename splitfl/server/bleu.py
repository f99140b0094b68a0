"""What a language model says, held against what people said: BLEU as sacrebleu has it."""

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
    """Corpus BLEU (Papineni et al., ACL'02; 0 to 100) of the likeliest tokens, up to `longest` of them.

    Each beginning is gone on from once, and held against all its references. Raises ConfigError
    where sacrebleu is not installed.
    """
    try:
        sacrebleu: Any = importlib.import_module("sacrebleu")
    except ImportError:
        raise ConfigError("BLEU needs the library sacrebleu: pip install 'splitfl[bleu]'") from None
    wanted = references(map(str, held_out.texts))
    beginnings = list(wanted)
    said = []
    for first in range(0, len(beginnings), BATCH):
        said += _said(model, tokenizer, beginnings[first : first + BATCH], longest)
    most = max(len(one) for one in wanted.values())
    streams = [[one[at] if at < len(one) else None for one in wanted.values()] for at in range(most)]
    # E2E's texts have their punctuation apart, which `force` says is known: sacrebleu would warn of it.
    return float(sacrebleu.corpus_bleu(said, streams, force=True).score)


def _said(model: Any, tokenizer: "PreTrainedTokenizerBase", beginnings: list[str], longest: int) -> list[str]:
    given = tokenizer(beginnings, return_tensors="pt", padding=True, padding_side="left")
    given = given.to(model.device)
    length = given["input_ids"].shape[1]
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
    texts: list[str] = tokenizer.batch_decode(ids_BT[:, length:], skip_special_tokens=True)
    return texts
