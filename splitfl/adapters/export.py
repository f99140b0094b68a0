"""Export of the trained adapters to a folder that peft loads on the unsplit model.

Residuals are folded into their module's LoRA as additional rank, and kinds with `as_lora` become the LoRA
of the same update, so that loading needs no random draws and works with any version of peft. Beside DoRA
they become DoRA with the magnitudes of the updated weight, since a folder of peft has one or the other.
Kinds that are not low-rank matrices (IA3) are exported as they are: in the folder itself if there is no
LoRA, else in a subfolder named after the kind.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftConfig
from safetensors.torch import save_file
from torch import Tensor

from splitfl.adapters.dora import MAGNITUDE, magnitude
from splitfl.adapters.lora import lora_config
from splitfl.adapters.model_export import config_json
from splitfl.adapters.registry import ADAPTERS, module_of
from splitfl.adapters.residuals import RESIDUALS, A, B, folded
from splitfl.adapters.targets import side_of
from splitfl.config import AdapterConfig, value_of
from splitfl.core.checkpoint import write_whole
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.families import CAUSAL_LM, LANGUAGE_MODELS, SEQUENCE_CLASSIFICATION

_CLASSIFIERS = ("classifier", "score")  # so peft's PeftModelForSequenceClassification finds them
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


def export_adapter(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    whole: Piece,
    model_name: str,
    adapter: AdapterConfig,
    cut: int,
) -> None:
    """Writes all pieces' trainable tensors for `PeftModel.from_pretrained(model, folder)`.

    `whole` is the unsplit model with the same adapters. Ranks are taken from the tensors; trained
    tensors outside adapters (a new classifier) are saved via `modules_to_save`. For each of
    `folders_inside`, the loaded model must be loaded once more:
    `PeftModel.from_pretrained(loaded.get_base_model(), inside)`. The class names of a classifier are
    in the model's config.json beside the adapter: `AutoConfig.from_pretrained(folder)`. Files are
    written atomically, peft's configuration last. Raises ConfigError for a tensor of an adapter that
    `whole` does not have.
    """
    tensors = {name: value.detach().cpu() for name, value in tensors.items()}
    lora, others, plain = _by_kind(whole, tensors)
    ranks = {name.removesuffix(A): len(value) for name, value in lora.items() if name.endswith(A)}
    alphas = {name: rank * _scale(whole, name, adapter, cut) for name, rank in ranks.items()}
    modules = {kind: [name for name, its in whole.adapters.items() if its == kind] for kind in others}
    task_type, heads = _task(whole, [*ranks, *(name for own in modules.values() for name in own)])
    plain, biases = _without_biases(plain, heads)
    unadapted = plain | _missing(whole, heads, plain)
    fan_in_fan_out, configs = whole.family.fan_in_fan_out, list[tuple[str, PeftConfig, dict[str, Tensor]]]()
    if use_dora := any(name.endswith(MAGNITUDE) for name in lora):
        lora = _magnitudes(whole, lora, {name: alphas[name] / rank for name, rank in ranks.items()}) | lora
    if ranks or not others:
        made = lora_config(
            ranks, alphas, fan_in_fan_out, use_dora=use_dora, **_trained_with(whole, ranks, adapter, cut)
        )
        configs.append(("lora", made, lora | biases))
    for kind, values in others.items():
        make = ADAPTERS[kind].peft_config
        assert make is not None
        layers = {name: whole.model.get_submodule(name) for name in modules[kind]}
        configs.append((kind, make(layers, fan_in_fan_out), values))
    for index, (kind, config, values) in enumerate(configs):
        config.task_type, config.base_model_name_or_path = task_type, model_name
        if whole.family.texts:  # for AutoPeftModel: its classes for a task do not know such models
            config.task_type, made_by = None, type(whole.model)
            config.auto_mapping = {
                "base_model_class": made_by.__name__,
                "parent_library": made_by.__module__,
            }
        vars(config)["modules_to_save"] = _whole_modules(
            unadapted, heads
        )  # in each config: where peft reads them
        _write(folder / kind if index else folder, config, values | unadapted)
    if whole.kind not in LANGUAGE_MODELS:
        write_whole(folder / "config.json", config_json(whole).encode())


def folders_inside(folder: Path) -> list[Path]:
    """The subfolders of an exported adapter that hold its tensors of other kinds."""
    return sorted(path.parent for path in folder.glob(f"*/{_CONFIG}"))


def _by_kind(
    whole: Piece, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Tensors convertible to LoRA as LoRA, other kinds' tensors by kind, and tensors of no adapter."""
    lora = {name: value for name, value in tensors.items() if name.endswith(RESIDUALS)}
    others: dict[str, dict[str, Tensor]] = {}
    plain = {name: value for name, value in tensors.items() if name not in lora}
    for module, name in whole.adapters.items():
        kind = ADAPTERS[name]
        own = {end: plain.pop(module + end) for end in kind.factors if module + end in plain}
        if own and kind.as_lora is not None:
            lora[module + A], lora[module + B] = kind.as_lora(whole.model.get_submodule(module), own)
            lora |= {module + end: value for end, value in own.items() if end == MAGNITUDE}
        elif own:
            others.setdefault(name, {}).update({module + end: value for end, value in own.items()})
    if left := next(filter(module_of, plain), None):
        raise ConfigError(f"cannot export {left}: {module_of(left)} has no such adapter in the unsplit model")
    return folded(lora), others, plain


def _magnitudes(whole: Piece, lora: Mapping[str, Tensor], scales: Mapping[str, float]) -> dict[str, Tensor]:
    """The magnitudes with which DoRA of these factors is their LoRA."""
    return {
        module + MAGNITUDE: magnitude(
            whole.model.get_submodule(f"{module}.base_layer"), lora[module + A], lora[module + B], scale
        )
        for module, scale in scales.items()
    }


def _scale(whole: Piece, module: str, adapter: AdapterConfig, cut: int) -> float:
    side = side_of(whole.family, module, adapter, cut)
    return ADAPTERS[side.kind].scale(side)


def _trained_with(whole: Piece, modules: Iterable[str], adapter: AdapterConfig, cut: int) -> dict[str, Any]:
    """The settings `dropout` and `bias` of the modules, with which peft continues their training."""
    found = [side_of(whole.family, module, adapter, cut) for module in modules]
    dropouts = [value for side in found if (value := value_of(side, "dropout"))]
    biases = [value for side in found if (value := value_of(side, "bias")) not in (None, "none")]
    return {"dropout": next(iter(dropouts), 0.0), "bias": next(iter(biases), "none")}


def _without_biases(
    plain: Mapping[str, Tensor], heads: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of modules that peft saves whole, and the biases that are trained without a weight."""
    biases = {
        name: value
        for name, value in plain.items()
        if name.endswith(".bias")
        and f"{name.removesuffix('.bias')}.weight" not in plain
        and not any(name.startswith(f"{head}.") for head in heads)
    }
    return {name: value for name, value in plain.items() if name not in biases}, biases


def _task(whole: Piece, adapted: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The task type for peft, and the modules that peft saves and loads completely for that type.

    None for images, for which peft has no task type, and for an adapted text classifier, which peft
    does not support with one.
    """
    if whole.kind in LANGUAGE_MODELS:
        return "CAUSAL_LM" if whole.kind == CAUSAL_LM else "SEQ_2_SEQ_LM", ()
    names = (name for name, _ in whole.model.named_modules())
    heads = tuple(name for name in names if name.endswith(_CLASSIFIERS))
    is_adapted = any(f"{name}.".startswith(f"{head}.") for name in adapted for head in heads)
    if whole.kind != SEQUENCE_CLASSIFICATION or is_adapted:
        return None, ()
    return "SEQ_CLS", heads


def _missing(whole: Piece, heads: Sequence[str], plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Untrained tensors that peft expects for these modules: a classifier from the checkpoint."""
    held = {
        f"{head}.{name}": value.detach().cpu()
        for head in heads
        for name, value in whole.model.get_submodule(head).named_parameters()
    }
    return {name: value for name, value in held.items() if name not in plain}


def _whole_modules(unadapted: Mapping[str, Tensor], heads: Sequence[str]) -> list[str] | None:
    """The `modules_to_save` of peft; for a classifier of several modules the classifier itself."""
    names = {name.rpartition(".")[0] for name in unadapted}
    inside = {name for name in names for head in heads if name.startswith(f"{head}.")}
    return sorted(names - inside | set(heads)) or None


def _write(folder: Path, config: PeftConfig, tensors: Mapping[str, Tensor]) -> None:
    config.inference_mode = True
    for name, value in vars(config).items():
        if isinstance(value, set):  # sets have another order in each process
            setattr(config, name, sorted(value))
    weights = {f"base_model.model.{name}": value.contiguous() for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        save_file(weights, Path(staging) / _WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(staging)
        for name in (_WEIGHTS, _CONFIG):
            os.replace(Path(staging) / name, folder / name)
