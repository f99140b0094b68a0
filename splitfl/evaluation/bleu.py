"""BLEU of a language model's generated texts, computed by sacrebleu."""

from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from splitfl.core.extras import optional
from splitfl.data.examples import Examples
from splitfl.data.reading.e2e import references
from splitfl.evaluation.greedy import continuations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def bleu(
    model: PreTrainedModel, tokenizer: "PreTrainedTokenizerBase", held_out: Examples, longest: int
) -> float:
    """Corpus BLEU (Papineni et al., ACL'02; 0 to 100) of greedy decoding up to `longest` tokens.

    Each prompt is completed once and compared with all its references. Raises ConfigError if
    sacrebleu is not installed.
    """
    sacrebleu = optional("sacrebleu", "BLEU needs the library sacrebleu", "bleu")
    references_by_prompt = references(map(str, held_out.texts))
    prompts = list(references_by_prompt)
    generated = continuations(model, tokenizer, tokenizer(prompts)["input_ids"], longest)
    most = max(len(one) for one in references_by_prompt.values())
    streams = [
        [one[at] if at < len(one) else None for one in references_by_prompt.values()] for at in range(most)
    ]
    # E2E's texts are tokenised; `force` suppresses sacrebleu's warning about that.
    return float(sacrebleu.corpus_bleu(generated, streams, force=True).score)
