"""Names of a checkpoint's classes: reading those it has, and writing those of the data."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PretrainedConfig

from splitfl.core.folder_cache import cached_by_files
from splitfl.models.checkpoint_file import entries
from splitfl.models.load import built, is_of_base, names_in_model, read_config


@cached_by_files
def stored_classes(folder: Path, kind: str, attention: str = "sdpa") -> tuple[tuple[str, ...], bool]:
    """The names of a checkpoint's classes by number, and whether it holds a classifier for them."""
    config = read_config(folder, kind, attention, pad_token_id=0)
    named: dict[int, str] = config.id2label  # type: ignore[assignment]  # from_pretrained made ints of its keys
    names = tuple(str(named[number]) for number in sorted(named))
    if getattr(config, "untrained", False):
        return names, False
    whole = built(folder, config, kind, "float32", attention)
    stored = names_in_model(whole, entries(folder))
    return names, any(not is_of_base(whole, name) for name, _ in whole.named_parameters() if name in stored)


def name_classes(config: PretrainedConfig, names: Sequence[str]) -> None:
    """Puts the names of classes into a model's configuration, for whoever loads it later."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
