"""Class names in a checkpoint's configuration: reading them, and writing those of the data."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PretrainedConfig

from splitfl.core.folder_cache import cached_by_files
from splitfl.models.checkpoint.checkpoint_file import entries
from splitfl.models.checkpoint.stored_names import stored_in_model
from splitfl.models.load import built, read_config
from splitfl.models.materialise import is_of_base


@cached_by_files
def stored_classes(folder: Path, kind: str, attention: str = "sdpa") -> tuple[tuple[str, ...], bool]:
    """The class names of a checkpoint by index, and whether it holds a trained classifier for them."""
    config = read_config(folder, kind, attention, pad_token_id=0)
    named: dict[int, str] = config.id2label  # type: ignore[assignment]  # from_pretrained made ints of its keys
    names = tuple(str(named[number]) for number in sorted(named))
    if getattr(config, "untrained", False):
        return names, False
    whole = built(folder, config, kind, "float32", attention)
    stored = stored_in_model(whole, entries(folder))
    return names, any(not is_of_base(whole, name) for name, _ in whole.named_parameters() if name in stored)


def name_classes(config: PretrainedConfig, names: Sequence[str]) -> None:
    """Writes class names into a model's configuration (id2label and label2id)."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
