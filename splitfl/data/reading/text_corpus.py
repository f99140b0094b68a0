"""Language-model corpora of any size: where tasks find them, and what of them is trained on and measured."""

from pathlib import Path

import numpy as np

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.examples import HELD_OUT_ONE_IN
from splitfl.data.reading.corpus import Corpus
from splitfl.data.reading.hub_stream import text_stream
from splitfl.data.reading.sources import located, refuse_data
from splitfl.data.reading.text_files import standard_library, text_files
from splitfl.data.reading.text_pieces import PIECE_BYTES, TextSource
from splitfl.data.reading.token_file import TokenFile, tokenised


def stdlib_source(config: TaskConfig) -> TextSource:
    """Python's own standard library; ConfigError where data are named."""
    refuse_data(config, "corpus")
    return standard_library()


def own_texts(config: TaskConfig) -> TextSource:
    """The texts that `task.data` names. Raises ConfigError or DataError."""
    return located(
        config,
        "a text file, a folder of text files (also .gz)",
        by_path=lambda path: text_files(path, config),
        by_name=lambda name: text_stream(name, config),
    )


def token_corpus(source: TextSource, model_folder: Path, *, is_evaluation: bool) -> Corpus:
    """The source as tokens of the model in this folder; where it `is_evaluation` nothing is trained on.

    Pieces are held out by their hash where the source does not say which. Raises DataError for a source
    without text, for one that is too small to hold any of it out, and as `tokenised` does.
    """
    file = tokenised(source, model_folder)
    train, held_out = file.part(is_held_out=False), file.part(is_held_out=True)
    if is_evaluation:
        held_out = held_out if file.is_split else file.pieces
        train = train.take(np.empty(0, dtype=np.int64))
    if not int(file.pieces.sizes.sum()):
        raise DataError(f"{source.name} has no text")
    if not (len(train) or is_evaluation) or not len(held_out):
        raise DataError(
            f"{source.name} has {len(file.pieces)} pieces of up to {PIECE_BYTES // 1024} KiB, too few to "
            f"hold one in {HELD_OUT_ONE_IN} out; take task lm, which holds lines out, or give a folder with "
            "train and dev files"
        )
    return Corpus(train=train, held_out=held_out, label_names=(), sources=(_described(source, file),))


def _described(source: TextSource, file: TokenFile) -> str:
    pieces = f"{len(file.pieces):,} pieces of up to {PIECE_BYTES // 1024} KiB"
    return f"{source.name}: {file.text_bytes:,} bytes in {file.documents:,} documents, read as {pieces}"
