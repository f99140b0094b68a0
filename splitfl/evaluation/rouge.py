"""The answers of a language model held against those of the data: ROUGE as rouge-score has it."""

from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from splitfl.core.extras import optional
from splitfl.data.answers import as_chat, written_prompt
from splitfl.data.chat_template import ASSISTANT, ChatTemplate
from splitfl.data.examples import Examples
from splitfl.data.text_kinds import Answered, Chat
from splitfl.evaluation.greedy import continuations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = ("rouge1", "rouge2", "rougeL")


def rouge(
    model: PreTrainedModel,
    tokenizer: "PreTrainedTokenizerBase",
    held_out: Examples,
    *,
    template: str,
    longest: int,
) -> dict[str, float]:
    """Mean F1 (0 to 1) of ROUGE-1, -2 and -L (Lin, 2004), without stemming, of the likeliest answers.

    Of a chat the last message of role assistant is to be said. Raises ConfigError where rouge-score is not
    installed.
    """
    library = optional("rouge_score.rouge_scorer", "ROUGE needs the library rouge-score", "rouge")
    scorer = library.RougeScorer(list(KINDS))
    asked = [_asked(text, tokenizer, template) for text in held_out.texts]
    pairs = [pair for pair in asked if pair is not None]
    said = continuations(model, tokenizer, [ids for ids, _ in pairs], longest)
    scores = [scorer.score(wanted, text) for (_, wanted), text in zip(pairs, said, strict=True)]
    return {kind: sum(score[kind].fmeasure for score in scores) / len(scores) for kind in KINDS}


def _asked(text: object, tokenizer: "PreTrainedTokenizerBase", template: str) -> tuple[list[int], str] | None:
    """The tokens of a prompt and what is to follow; None for a chat in which the assistant says nothing."""
    if isinstance(text, Answered) and template == "chat":
        text = as_chat(text)
    if isinstance(text, Answered):
        ids: list[int] = tokenizer(written_prompt(text, template))["input_ids"]
        return ids, text.completion
    assert isinstance(text, Chat)
    last = max((at for at, one in enumerate(text.messages) if one.role == ASSISTANT), default=None)
    if last is None:
        return None
    return ChatTemplate(tokenizer).prompt(text.messages[:last]), text.messages[last].content
