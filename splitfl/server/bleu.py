"""What a language model says, held against what people said: BLEU as sacrebleu has it."""

import importlib
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from splitfl.core.errors import ConfigError
from splitfl.data.e2e import references
from splitfl.data.examples import Examples
from splitfl.server.greedy import continuations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    said = continuations(model, tokenizer, tokenizer(beginnings)["input_ids"], longest)
    most = max(len(one) for one in wanted.values())
    streams = [[one[at] if at < len(one) else None for one in wanted.values()] for at in range(most)]
    # E2E's texts have their punctuation apart, which `force` says is known: sacrebleu would warn of it.
    return float(sacrebleu.corpus_bleu(said, streams, force=True).score)
