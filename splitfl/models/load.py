"""Loads one piece of a checkpoint; only the tensors of the piece are read into memory."""

import copy
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from splitfl.core.errors import CutError, ModelMissing, SplitflError
from splitfl.core.folder_cache import cached_by_files
from splitfl.models.checkpoint.checkpoint_file import Entry, entries, same_bytes
from splitfl.models.checkpoint.config_file import check_numbers, config_table, not_of, refuse_router_loss
from splitfl.models.checkpoint.quantised_checkpoint import stored_quantisation
from splitfl.models.checkpoint.source import resolve
from splitfl.models.checkpoint.stored_names import refuse_unread, stored_in_model
from splitfl.models.cut import Piece
from splitfl.models.families import (
    FAMILIES,
    IMAGE_CLASSIFICATION,
    LANGUAGE_MODELS,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    block_config,
    check,
    is_inside,
)
from splitfl.models.feature_maps import shortened
from splitfl.models.materialise import Aliases, WeightSource, is_of_base, is_on_top, materialise
from splitfl.models.quantised import Quantisation
from splitfl.models.unsplit import build
from splitfl.models.untrained.small_net import SmallNetConfig

_OWN: dict[str, Any] = {"small_net": SmallNetConfig}


def load_piece(
    source: Path | str,
    kind: str,
    first: int,
    last: int | None = None,
    *,
    num_labels: int | None = None,
    problem_type: str = "single_label_classification",
    pad_token_id: int | None = None,
    dtype: str = "float32",
    attention: str = "sdpa",
    seed: int = 0,
    device: str = "cpu",
    is_shape_only: bool = False,
    shortened_to: int | None = None,
    new_classifier: bool = False,
    quantisation: Quantisation | None = None,
    on_block: Callable[[nn.Module], None] | None = None,
) -> Piece:
    """Blocks `first` to `last` - 1 (to the last block if `last` is None) of a pretrained model.

    `source` is a folder with config.json and safetensors, or a name for `resolve`; `problem_type` selects a
    classifier's loss as in transformers. Modules that a checkpoint of the base model lacks (pooler,
    classifier, language model head) are initialised by the model's own code, from the seed and the module's
    name only, so that the values do not depend on the cut; `piece.fresh` names those parameters. A folder
    whose configuration has `untrained` needs no weights: all parameters are initialised so. With
    `is_shape_only` no weights are read: all tensors are zeros without storage, for dry runs. `shortened_to`
    truncates an image model to that many blocks with a new classifier; `new_classifier` gives any model a
    newly initialised classifier. `quantisation` is of the base model's linear modules, one at a time as they
    are read; those of a quantised checkpoint stay as they are. `on_block` is as in `materialise`.

    Raises ModelMissing for absent or damaged weights, CutError for a model that cannot be cut.
    """
    folder = source if isinstance(source, Path) else resolve(source)
    config = read_config(
        folder, kind, attention, num_labels=num_labels, problem_type=problem_type, pad_token_id=pad_token_id
    )
    if new_classifier and kind in LANGUAGE_MODELS:
        raise CutError("model.new_classifier must be false for a language model: it has no classifier")
    if is_shortened := shortened_to is not None:
        _check_first(config, first, shortened_to)
        shortened(config, shortened_to)
    of_checkpoint = stored_quantisation(getattr(config, "quantization_config", None))
    check_quantisation(folder, config, quantisation)
    whole = built(folder, config, kind, dtype, attention)
    stored = {} if getattr(config, "untrained", False) else stored_in_model(whole, entries(folder))
    if stored and not is_shortened:
        refuse_unread(whole, entries(folder))
    if is_shortened or new_classifier:
        stored = _without_classifier(whole, stored, is_shortened=is_shortened)
    checkpoint = WeightSource(
        aliases=_aliases(whole, stored),
        stored=stored,
        seed=seed,
        is_shape_only=is_shape_only,
        quantisation=of_checkpoint or quantisation,
        is_quantised=of_checkpoint is not None,
        is_shortened=is_shortened,
    )
    piece = _cut_out(whole, kind, first, last, checkpoint)
    piece.fresh = materialise(piece, checkpoint, device, on_block)
    if not ((piece.is_first and piece.is_last) or piece.family.decoder):  # tied in different pieces
        piece.model.config.tie_word_embeddings = False
    return piece.requires_grad_(False)


def _check_first(config: PretrainedConfig, first: int, shortened_to: int) -> None:
    """Raises CutError for a piece without blocks, where the last stage of a model has other tokens alone."""
    if first == shortened_to and FAMILIES[config.model_type].hands_tokens:
        raise CutError(
            f"method.auxiliary_blocks must be at least 1 for a {config.model_type} model, whose last "
            "stage alone does not merge patches"
        )


def _without_classifier(
    whole: PreTrainedModel, stored: Mapping[str, Entry], *, is_shortened: bool
) -> dict[str, Entry]:
    """The stored tensors of the base model; of a shortened one without what follows the last block."""
    replaced = FAMILIES[whole.config.model_type].after if is_shortened else ()
    return {
        name: entry
        for name, entry in stored.items()
        if is_of_base(whole, name) and not is_inside(whole, name, replaced)
    }


def _cut_out(
    whole: PreTrainedModel, kind: str, first: int, last: int | None, checkpoint: WeightSource
) -> Piece:
    """The piece without weights, with what it can only be told about the whole."""
    stored, unused = checkpoint.stored, FAMILIES[whole.config.model_type].unused
    new = _new_modules(whole, stored, checkpoint.aliases)  # before the piece takes modules out of the whole
    piece = Piece(whole, kind, first, last)
    piece.new = new
    piece.unread = {name: entry for name, entry in stored.items() if is_inside(whole, name, unused)}
    piece.tied = tied_elsewhere(piece, checkpoint.aliases)
    return piece


def read_config(
    folder: Path,
    kind: str,
    attention: str = "sdpa",
    *,
    num_labels: int | None = None,
    problem_type: str = "single_label_classification",
    pad_token_id: int | None = None,
) -> PretrainedConfig:
    """The model's configuration. Raises CutError for an unsupported type or task, ModelMissing if invalid."""
    path, model_type = folder / "config.json", config_table(folder)["model_type"]
    family = check(model_type, kind, attention)
    try:
        config = copy.deepcopy(_stored_config(folder, model_type))
    except Exception as error:  # transformers may raise any type for an invalid field
        raise not_of(path, model_type, error) from None
    check_numbers(path, block_config(config))
    refuse_router_loss(str(path), block_config(config))
    _check_text(str(path), config, kind, attention)
    inner = block_config(config)
    for one in (config, inner):
        one.return_dict, one.output_attentions, one.output_hidden_states = True, False, False
        one.chunk_size_feed_forward = 0  # of the same result, for texts of a multiple of it alone
    if kind not in LANGUAGE_MODELS:  # the stored one is that of other data
        config.problem_type = problem_type
    if num_labels is not None:
        config.num_labels = num_labels
    if pad_token_id is not None:
        config.pad_token_id = inner.pad_token_id = pad_token_id
        if kind != IMAGE_CLASSIFICATION:
            _check_padding(path, inner)
    if kind == SEQUENCE_CLASSIFICATION and family.pools_last and config.pad_token_id is None:
        raise CutError(
            f"a {model_type} model classifies by its last token: pass pad_token_id, {path} has none"
        )
    if kind == SEQ2SEQ_LM and family.base == "" and config.decoder_start_token_id is None:
        raise ModelMissing(f"{path}: decoder_start_token_id must be a token, the decoder's first, got None")
    assert isinstance(config, PretrainedConfig)
    return config


def _check_text(source: str, config: PretrainedConfig, kind: str, attention: str) -> None:
    """Raises CutError for a model of several modalities with a text model of another type or attention."""
    found, family = block_config(config).model_type, FAMILIES[config.model_type]
    if family.texts and found not in family.texts:
        raise CutError(
            f"{source}: text_config of a {config.model_type} model must be of type "
            f"{', '.join(family.texts)}, got {found!r}"
        )
    if found in FAMILIES:
        check(found, kind, attention)


@cached_by_files
def _stored_config(folder: Path, model_type: str) -> Any:
    return _OWN.get(model_type, AutoConfig).from_pretrained(folder, local_files_only=True)


def _check_padding(path: Path, config: PretrainedConfig) -> None:
    if config.pad_token_id >= config.vocab_size:
        raise CutError(
            f"the tokenizer in {path.parent} pads with token {config.pad_token_id}, which is beyond the "
            f"{config.vocab_size} embeddings of {path.name} (vocab_size): enlarge them with "
            "model.resize_token_embeddings(len(tokenizer)) and save the model again, or set the tokenizer's "
            "padding token to one of the original vocabulary"
        )


def built(folder: Path, config: PretrainedConfig, kind: str, dtype: str, attention: str) -> PreTrainedModel:
    """The unsplit model on the meta device. Raises CutError or ModelMissing for a bad configuration."""
    try:
        return build(config, kind, dtype=dtype, attention=attention)
    except SplitflError:
        raise
    except Exception as error:  # any type, from fields that transformers does not validate
        raise not_of(folder / "config.json", config.model_type, error) from None


def _aliases(model: PreTrainedModel, stored: Mapping[str, Entry]) -> Aliases:
    """For every parameter name, all names of the same (tied) parameter.

    As in `from_pretrained`, names with different values in the checkpoint are not tied.
    """
    groups: dict[int, list[str]] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(value), []).append(name)
    aliases: Aliases = {}
    for group in groups.values():
        held = [stored[name] for name in group if name in stored]
        if any(not same_bytes(held[0], other) for other in held[1:]):
            for name in group:
                path, _, leaf = name.rpartition(".")
                module = model.get_submodule(path)
                module._parameters[leaf] = nn.Parameter(model.get_parameter(name).detach())
                aliases[name] = (name,)
        else:
            aliases |= dict.fromkeys(group, tuple(group))
    return aliases


def _new_modules(model: PreTrainedModel, stored: Mapping[str, Entry], aliases: Aliases) -> tuple[str, ...]:
    """The head modules of the unsplit model without any parameter in the checkpoint."""

    def is_held(name: str) -> bool:
        return any(alias in stored for alias in aliases[name])

    found = []
    for path, module in model.named_modules():
        own = [f"{path}.{leaf}" for leaf, value in module._parameters.items() if value is not None]
        is_leaf = next(module.children(), None) is None
        if is_leaf and own and not any(is_held(name) or not is_on_top(model, name) for name in own):
            found.append(path)
    return tuple(found)


def tied_elsewhere(piece: Piece, aliases: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """The names of the piece's parameters that are tied to, or also used by, another piece.

    `aliases` are, for every parameter name of the unsplit model, all names of the same parameter.
    """
    held = {name for name, _ in piece.model.named_parameters(remove_duplicate=False)}
    tied = {name for name in held if not held.issuperset(aliases[name])}
    if not (piece.is_first and piece.is_last):
        tied |= {name for name in held if is_inside(piece.model, name, piece.family.shared)}
    return tuple(sorted(tied))


def check_quantisation(folder: Path, config: PretrainedConfig, wanted: Quantisation | None) -> None:
    """Raises CutError if the checkpoint or its family cannot have the wanted quantisation."""
    stored = stored_quantisation(getattr(config, "quantization_config", None))
    if wanted is None or wanted == stored:
        return
    if stored is not None:
        raise CutError(f"model.quantization must be 'none' for {folder}, which is quantised: {stored}")
    if getattr(config, "untrained", False):
        raise CutError(f"model.quantization must be 'none' for {folder}, which has no weights yet")
    family = FAMILIES[config.model_type]
    if family.fan_in_fan_out or family.hands_pictures:
        has = "transposed modules (Conv1D)" if family.fan_in_fan_out else "convolutions or windows"
        raise CutError(
            f"model.quantization must be 'none' for a {config.model_type} model: linear modules are "
            f"quantised, and its blocks have {has}"
        )
