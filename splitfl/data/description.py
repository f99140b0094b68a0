"""What was understood of the data, in a few lines for a person to check before a run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splitfl.data.classes import near_twins
from splitfl.data.loader import TokenCount
from splitfl.data.samples import Samples
from splitfl.data.task import Task
from splitfl.data.text_kinds import Tagged
from splitfl.data.token_pieces import TokenPieces

_MOST_CLASSES = 20
_MOST_CLIENTS = 8


@dataclass(frozen=True, kw_only=True)
class Description:
    """Lines that state, and lines that warn."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...]


def describe(
    task: Task, tokens: TokenCount | None, max_length: int, shares: Sequence[Sequence[int]] = ()
) -> Description:
    """The files, the samples, the classes with their counts, the tokens and what is cut off.

    Of a corpus of tokens also how many of them each client has, by its pieces in `shares`.
    """
    corpus = task.corpus
    unit = "pieces" if isinstance(task.train, TokenPieces) else "samples"
    samples = f"{len(task.train):,} {unit} to train on, {len(task.held_out):,} held out"
    if not len(task.train):
        samples = f"{len(task.held_out):,} {unit} to measure"
    lines = [*corpus.sources, samples]
    warnings = []
    if corpus.skipped_rows:
        warnings.append(f"{corpus.skipped_rows:,} malformed rows of {task.source} were skipped")
    if task.problem_type == "regression":
        lines.append(_numbers(task.train if len(task.train) else task.held_out))
    if corpus.label_names:
        counts = _counts(task.train if len(task.train) else task.held_out, corpus.label_names)
        lines.append(_classes(corpus.label_names, counts, corpus.numbered))
        warnings += near_twins(corpus.label_names)
        warnings += [
            f"no training sample is of class {name!r}"
            for name, count in zip(corpus.label_names, counts, strict=True)
            if not count and len(task.train)
        ]
    if isinstance(task.train, TokenPieces) and shares:
        lines.append(_token_shares(task.train, shares))
    if tokens is not None:
        texts = "texts" if unit == "samples" else unit
        learnt = "" if tokens.learnt_tokens is None else _learnt(tokens)
        lines.append(
            f"{tokens.tokens:,} tokens in {tokens.texts:,} {texts}{learnt}{_packed(task, max_length)}"
        )
        warnings += _answer_warnings(tokens, max_length)
        if tokens.truncated_texts:
            share = tokens.truncated_tokens / tokens.tokens
            warnings.append(
                f"{tokens.truncated_texts:,} of {tokens.texts:,} texts are longer than task.max_length = "
                f"{max_length}: {tokens.truncated_tokens:,} of {tokens.tokens:,} tokens ({share:.1%}) are "
                "not read"
            )
    return Description(lines=tuple(lines), warnings=tuple(warnings))


def _counts(samples: Samples, names: Sequence[str]) -> list[int]:
    assert not isinstance(samples, TokenPieces), "tokens have no classes"
    if samples.labels is None:
        tags = Counter(tag for text in samples.texts if isinstance(text, Tagged) for tag in text.tags)
        return [tags[name] for name in names]
    if samples.labels.ndim == 2:
        return [int(count) for count in samples.labels.sum(0)]
    return [int(count) for count in np.bincount(samples.labels.astype(np.int64), minlength=len(names))]


def _numbers(samples: Samples) -> str:
    assert samples.labels is not None
    least, most, mean = samples.labels.min(), samples.labels.max(), samples.labels.mean()
    return f"labels from {least:g} to {most:g}, {mean:.3g} on average"


def _classes(names: Sequence[str], counts: Sequence[int], numbered: str) -> str:
    named = zip(names, counts, strict=True)
    shown = [f"{name if name.isprintable() else ascii(name)} ({count:,})" for name, count in named]
    if len(shown) > _MOST_CLASSES:
        shown = [*shown[:_MOST_CLASSES], "..."]
    return f"{len(names)} classes{f', {numbered}' if numbered else ''}: {', '.join(shown)}"


def _token_shares(pieces: TokenPieces, shares: Sequence[Sequence[int]]) -> str:
    """How many tokens each client has, and what share of all."""
    total = int(pieces.sizes.sum())
    held = {client: int(pieces.sizes[list(own)].sum()) for client, own in enumerate(shares) if own}
    shown = [f"client {client} {own:,} ({own / total:.1%})" for client, own in held.items()]
    return f"tokens: {', '.join(shown[:_MOST_CLIENTS])}{', ...' * (len(shown) > _MOST_CLIENTS)}"


def _learnt(tokens: TokenCount) -> str:
    share = (tokens.learnt_tokens or 0) / tokens.tokens
    return f", {tokens.learnt_tokens:,} of them ({share:.1%}) in the loss"


def _answer_warnings(tokens: TokenCount, max_length: int) -> list[str]:
    """What a loss over answers leaves out, or takes in beyond them."""
    warnings = []
    if tokens.unlearnt_texts:
        warnings.append(
            f"{tokens.unlearnt_texts:,} of {tokens.texts:,} texts are left out: they have no answer within "
            f"task.max_length = {max_length}"
        )
    if tokens.cut_prompts:
        warnings.append(
            f"the end of {tokens.cut_prompts:,} of {tokens.texts:,} prompts is tokenised together with its "
            "completion and counts as part of it; end prompts with a line feed or a blank"
        )
    return warnings


def _packed(task: Task, max_length: int) -> str:
    if task.packing == "pack" and task.has_answers:
        return f", whole texts together in samples of up to {max_length}"
    if task.packing == "pack":
        return f", one after another in samples of {max_length}"
    return f", long ones cut into samples of {max_length}" if task.packing == "chunk" else ""
