"""What a run has trained as one folder that peft loads on the unsplit model.

Residuals become more rank of their module's LoRA, and VeRA, TinyLoRA and LoHa become the
LoRA that each is: B' = b B and A' = d A of VeRA, B' = B and A' = R A of TinyLoRA, all
products of two columns and of two rows of LoHa. So nothing need be drawn anew to load it,
and any peft can. IA3 is no matrix of low rank:
where both sides have it the folder holds IA3, and where one has it the folder `ia3` in it.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from peft import PeftConfig
from peft.tuners.vera.layer import VeraLayer
from safetensors.torch import save_file
from torch import Tensor

from splitfl.adapters import loha, tiny_lora
from splitfl.adapters.inject import projections, side_of
from splitfl.adapters.model_export import config_json
from splitfl.adapters.peft_settings import ia3_config, lora_config
from splitfl.adapters.residuals import A, B, folded
from splitfl.config import AdapterConfig
from splitfl.core.checkpoint import write_whole
from splitfl.models.cut import Piece
from splitfl.models.families import CAUSAL_LM, SEQUENCE_CLASSIFICATION, family_of

IA3_FOLDER = "ia3"
_CLASSIFIERS = ("classifier", "score")  # so peft's PeftModelForSequenceClassification finds them
_IA3, _VERA_B, _VERA_D = ".ia3_l", ".vera_lambda_b", ".vera_lambda_d"


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

    `whole` is the unsplit model with the same adapters. Ranks are read off the tensors; what
    is no adapter (a new classifier) is saved whole. Where LoRA and IA3 are mixed, the model
    so loaded is loaded once more: `PeftModel.from_pretrained(loaded.get_base_model(),
    folder / "ia3")`. A classifier's classes have their names in the model's own config.json beside the
    adapter: `AutoConfig.from_pretrained(folder)`. Files appear complete or not at all, peft's
    configuration last.
    """
    model_type, root = whole.model.config.model_type, folder
    tensors = folded(_as_lora(whole, {name: value.detach().cpu() for name, value in tensors.items()}))
    vectors = {name: value for name, value in tensors.items() if name.endswith(_IA3)}
    factors = {name: value for name, value in tensors.items() if name not in vectors}
    ranks = {name.removesuffix(A): len(value) for name, value in factors.items() if name.endswith(A)}
    plain = [name for name in factors if not name.endswith((A, B))]
    scales = {name: _scale(whole, name, adapter, cut) for name in ranks}
    targets = [name.removesuffix(_IA3) for name in vectors]
    task_type, heads = _task(whole, [*ranks, *targets])
    unadapted = {name: factors[name] for name in plain} | _missing(whole, heads, plain)
    whole_modules = _whole_modules(unadapted, heads)
    config: PeftConfig
    if ranks or not vectors:
        config = lora_config(model_type, ranks, {name: scales[name] * rank for name, rank in ranks.items()})
        config.target_modules = sorted(ranks)  # peft made a set of them, whose order is each process's own
        config.modules_to_save = whole_modules
        _write(folder, config, factors | unadapted, model_name, task_type)
        folder = folder / IA3_FOLDER
    if vectors:
        config = ia3_config(model_type, targets)
        config.target_modules, config.feedforward_modules = sorted(targets), []
        config.modules_to_save = whole_modules  # beside LoRA too: peft looks there for what it has wrapped
        _write(folder, config, vectors | unadapted, model_name, task_type)
    if whole.kind != CAUSAL_LM:
        write_whole(root / "config.json", config_json(whole).encode())


def _as_lora(whole: Piece, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with all that is a product of two factors in another form as these two."""
    others = (_VERA_B, _VERA_D, tiny_lora.V, *loha.FACTORS)
    found = {name: value for name, value in tensors.items() if not name.endswith(others)}
    for name, value in tensors.items():
        if name.endswith(_VERA_B):
            module = name.removesuffix(_VERA_B)
            layer = whole.model.get_submodule(module)
            assert isinstance(layer, VeraLayer)
            first, second = (shared.cpu().float() for shared in projections(layer))
            found[module + A] = tensors[module + _VERA_D][:, None] * first[:, : layer.in_features]
            found[module + B] = value[:, None] * second[: layer.out_features]
        elif name.endswith(tiny_lora.V):
            module = name.removesuffix(tiny_lora.V)
            layer = whole.model.get_submodule(module)
            found[module + A], found[module + B] = tiny_lora.as_factors(layer, value)
        elif name.endswith(loha.W1A):
            module = name.removesuffix(loha.W1A)
            found[module + A], found[module + B] = loha.as_factors(tensors, module)
    return found


def _scale(whole: Piece, module: str, adapter: AdapterConfig, cut: int) -> float:
    side = side_of(family_of(whole.model.config.model_type), module, adapter, cut)
    return side.alpha / side.rank if side.kind in ("lora", "loha") else 1.0


def _task(whole: Piece, adapted: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Peft's name of the task, and the modules that it saves and loads whole because of that.

    peft has no task for pictures, and cannot have an adapter in a text's classifier, so neither has a name.
    """
    if whole.kind == CAUSAL_LM:
        return "CAUSAL_LM", ()
    names = (name for name, _ in whole.model.named_modules())
    heads = tuple(name for name in names if name.endswith(_CLASSIFIERS))
    is_adapted = any(f"{name}.".startswith(f"{head}.") for name in adapted for head in heads)
    if whole.kind != SEQUENCE_CLASSIFICATION or is_adapted:
        return None, ()
    return "SEQ_CLS", heads


def _missing(whole: Piece, heads: Sequence[str], plain: Sequence[str]) -> dict[str, Tensor]:
    """What peft wants of these modules and nobody has trained: a classifier that the checkpoint has."""
    held = {
        f"{head}.{name}": value.detach().cpu()
        for head in heads
        for name, value in whole.model.get_submodule(head).named_parameters()
    }
    return {name: value for name, value in held.items() if name not in plain}


def _whole_modules(unadapted: Mapping[str, Tensor], heads: Sequence[str]) -> list[str] | None:
    """What peft is told to keep whole; of a classifier of several modules itself, not they."""
    names = {name.rpartition(".")[0] for name in unadapted}
    inside = {name for name in names for head in heads if name.startswith(f"{head}.")}
    return sorted(names - inside | set(heads)) or None


def _write(
    folder: Path, config: PeftConfig, tensors: Mapping[str, Tensor], model_name: str, task_type: str | None
) -> None:
    config.base_model_name_or_path = model_name
    config.task_type = task_type
    config.inference_mode = True
    weights = {f"base_model.model.{name}": value.contiguous() for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        save_file(weights, Path(staging) / "adapter_model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(staging)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            os.replace(Path(staging) / name, folder / name)
