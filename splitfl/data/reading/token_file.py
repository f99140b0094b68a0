"""The tokens of a text source in the user's cache folder: made once, then mapped into memory.

A folder named by a digest of the source's version and of the model's folder has `tokens.bin` and an index. It
is written under another name and renamed when it is complete, by one process at a time.
"""

import fcntl
import hashlib
import json
import logging
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from splitfl.core.errors import DataError
from splitfl.core.folder_cache import version_of
from splitfl.data.examples import HELD_OUT_ONE_IN, Ints, text_hash
from splitfl.data.reading.cache_folder import cache_folder
from splitfl.data.reading.text_pieces import TextPiece, TextSource, pieces_of
from splitfl.data.token_pieces import TokenPieces

log = logging.getLogger(__name__)

_FORMAT: Final = 1
"""To be incremented when the same source gives other tokens or another index."""

_AT_ONCE: Final = 4
"""The pieces that the tokenizer gets in one call."""

_TOKENS, _INDEX, _ABOUT = "tokens.bin", "index.npz", "about.json"


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """All pieces of a source, which of them are held out, and the numbers of documents and of bytes.

    `is_split` says whether the source itself holds documents out.
    """

    pieces: TokenPieces
    is_held_out: npt.NDArray[np.bool_]
    is_split: bool
    documents: int
    text_bytes: int

    def part(self, *, is_held_out: bool) -> TokenPieces:
        """The pieces that are, or are not, held out."""
        return self.pieces.take(np.flatnonzero(self.is_held_out == is_held_out))


def tokenised(source: TextSource, model_folder: Path) -> TokenFile:
    """The tokens of this source by the tokenizer in a model's folder, from the cache if they are there.

    No special tokens are added but the end token, where the tokenizer has one, after each document. A piece
    is tokenised by itself. Raises DataError for texts that cannot be read, without a cache folder, and if
    that is full.
    """
    home = cache_folder()
    if home is None:
        raise DataError(
            f"the tokens of {source.name} are stored in the user's cache folder, and there is none: set "
            "XDG_CACHE_HOME to a folder"
        )
    folder = home / "tokens" / _digest(source, model_folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder.with_suffix(".lock")):
            found = _opened(folder)
            if found is None:
                _make(folder, source, model_folder)
                found = _opened(folder)
    except OSError as error:
        raise DataError(
            f"cannot store the tokens of {source.name} in {folder}: {error.strerror}; XDG_CACHE_HOME may "
            "name another folder"
        ) from None
    assert found is not None, "a file that was just written is whole"
    return found


def _digest(source: TextSource, model_folder: Path) -> str:
    from tokenizers import __version__ as tokenizers_version

    key = _FORMAT, source.version, str(model_folder), version_of(model_folder), tokenizers_version
    return hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Serialises the processes that need the same tokens; a process that ends frees the lock."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, source: TextSource, model_folder: Path) -> None:
    """Tokenises the source into this folder; what an interrupted process left is removed."""
    log.info("tokenising %s once", source.name)
    partial = folder.with_suffix(".partial")
    for left in (partial, folder):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    try:
        _write(partial, source, model_folder)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@dataclass
class _Index:
    """What is known of each piece, in the order of the source."""

    ends: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    group_of: list[int] = field(default_factory=list)
    is_held_out: list[bool] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)
    seen: Counter[int] = field(default_factory=Counter)
    documents: int = 0
    text_bytes: int = 0
    is_split: bool = False

    def add(self, piece: TextPiece, num_tokens: int) -> None:
        held_out, group = piece.document.is_held_out, piece.document.group
        found = text_hash(piece.text)
        self.keys.append(text_hash(piece.text, self.seen[found]))
        self.seen[found] += 1
        self.is_held_out.append(found % HELD_OUT_ONE_IN == 0 if held_out is None else held_out)
        self.is_split |= held_out is not None
        self.ends.append((self.ends[-1] if self.ends else 0) + num_tokens)
        self.group_of.append(self.groups.setdefault(group, len(self.groups)))
        self.documents += piece.ends
        self.text_bytes += len(piece.text.encode())


def _write(folder: Path, source: TextSource, model_folder: Path) -> None:
    from splitfl.data.loader import tokenizer  # imports torch, which a list of tasks does not need

    encode = tokenizer(model_folder)
    dtype = np.uint16 if max(encode.get_vocab().values()) <= np.iinfo(np.uint16).max else np.uint32
    index, largest = _Index(), 0
    with (folder / _TOKENS).open("wb") as file:
        for pieces, tokens in _encoded(source, encode):
            for piece, own in zip(pieces, tokens, strict=True):
                if piece.ends and encode.eos_token_id is not None:
                    own.append(encode.eos_token_id)
                file.write(np.array(own, dtype=dtype).tobytes())
                index.add(piece, len(own))
                largest = max(largest, *own) if own else largest
    np.savez(
        folder / _INDEX,
        ends=np.array(index.ends, dtype=np.int64),
        keys=np.array(index.keys, dtype=np.int64),
        group_of=np.array(index.group_of, dtype=np.int32),
        is_held_out=np.array(index.is_held_out, dtype=bool),
    )
    about = {
        "source": source.name,
        "dtype": np.dtype(dtype).name,
        "groups": list(index.groups),
        "largest": largest,
        "documents": index.documents,
        "text_bytes": index.text_bytes,
        "is_split": index.is_split,
    }
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _encoded(source: TextSource, encode: Any) -> Iterator[tuple[list[TextPiece], list[list[int]]]]:
    """Some pieces at a time with the tokens of each."""
    pieces = (piece for document in source.documents() for piece in pieces_of(document))
    while some := list(islice(pieces, _AT_ONCE)):
        texts = [piece.text for piece in some]
        encoded = encode(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        yield some, encoded.input_ids


def _opened(folder: Path) -> TokenFile | None:
    """The tokens in this folder; None if they are missing or not whole."""
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
        with (folder / _INDEX).open("rb") as file, np.load(file, allow_pickle=False) as index:
            ends: Ints = index["ends"]
            keys, group_of, is_held_out = (index[name] for name in ("keys", "group_of", "is_held_out"))
        path, dtype = folder / _TOKENS, np.dtype(about["dtype"])
        if path.stat().st_size != (int(ends[-1]) if len(ends) else 0) * dtype.itemsize:
            raise ValueError(f"{path} has another size")
        is_empty = not path.stat().st_size  # which cannot be mapped
        tokens = np.empty(0, dtype=dtype) if is_empty else np.memmap(path, dtype=dtype, mode="r")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged and made again: %s", folder, error)
        return None
    pieces = TokenPieces(
        tokens=tokens,
        starts=np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])[: len(ends)],
        ends=ends,
        keys=keys,
        group_of=group_of,
        group_names=tuple(about["groups"]),
        largest=about["largest"],
    )
    return TokenFile(
        pieces=pieces,
        is_held_out=is_held_out,
        is_split=about["is_split"],
        documents=about["documents"],
        text_bytes=about["text_bytes"],
    )
