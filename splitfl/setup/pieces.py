"""Loads the pieces of a run's model from the checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from splitfl.adapters.inject import add_adapters, train_top, trainable
from splitfl.adapters.registry import trains_all
from splitfl.adapters.start import refuse_other_start, start_checksums, start_tensors
from splitfl.config import RunConfig, value_of
from splitfl.core.errors import ConfigError
from splitfl.data.loader import padding_token
from splitfl.data.task import Task
from splitfl.methods.parts.auxiliary import Auxiliary
from splitfl.models.checkpoint.checksums import checksums, refuse_other_weights
from splitfl.models.checkpoint.source import resolve
from splitfl.models.class_names import name_classes
from splitfl.models.cut import Piece
from splitfl.models.families import FAMILIES, IMAGE_CLASSIFICATION, LANGUAGE_MODELS
from splitfl.models.load import load_piece, read_config
from splitfl.models.quantised import quantisation_of


@dataclass(frozen=True, kw_only=True, eq=False)
class PieceLoader:
    """Loads the pieces of one side of a run, with adapters, on that side's device.

    `is_shape_only` pieces have no values (meta tensors). `weights` are the server's checksums for a process
    on another machine with its own copy of the model. `on_block` receives each block when it has been read.
    """

    config: RunConfig
    task: Task
    num_blocks: int
    device: str
    is_shape_only: bool = False
    weights: Mapping[str, str] = field(default_factory=dict)
    on_block: Callable[[nn.Module], None] | None = None

    def head(self, cut: int | None = None, *, is_bare: bool = False) -> Piece:
        """The blocks below the cut (default: the settings'); without adapters if `is_bare`."""
        return self._load(0, self.config.partition.cut if cut is None else cut, is_bare=is_bare)

    def body(self, cut: int | None = None) -> Piece:
        """The blocks from the cut (default: the settings') to the tail, or to the end."""
        return self._load(self.config.partition.cut if cut is None else cut, self._tail)

    def tail(self) -> Piece:
        """The last blocks, which the client holds."""
        return self._load(self._tail, self.num_blocks)

    def auxiliary(self) -> Piece:
        """The auxiliary network: the model's last blocks and its output layer, applied directly at the cut.

        A classifier is trained, new or not; an LM head, which is as large as the vocabulary, is frozen.
        With feature maps, whose shapes differ between blocks, it has the next blocks and its own
        classifier, as in FSL-SAGE's code.
        """
        blocks, cut = self.config.method.of(Auxiliary).auxiliary_blocks, self.config.partition.cut
        is_trained = self.task.kind not in LANGUAGE_MODELS
        if self._hands_pictures:
            return self._load(cut, cut + blocks, shortened_to=cut + blocks, trains_top=is_trained)
        return self._load(self.num_blocks - blocks, self.num_blocks, trains_top=is_trained)

    def whole(self) -> Piece:
        """The unsplit model, with the checksums of its weights."""
        return self._load(0, self.num_blocks, is_checked=True)

    def stage(self, blocks: range) -> Piece:
        """Consecutive blocks of the body, which may have no trainable tensor."""
        return self._load(blocks.start, blocks.stop, must_train=False)

    def checksums(self) -> dict[str, str]:
        """Those of `whole`, which is read one block at a time."""
        found: dict[str, str] = {}
        for index in range(self.num_blocks):
            found |= self._load(index, index + 1, is_checked=True, must_train=False).checksums
        return found

    @property
    def _tail(self) -> int:
        return self.num_blocks - self.config.partition.tail_blocks

    @property
    def _hands_pictures(self) -> bool:
        settings = read_config(resolve(self.config.model.name), self.task.kind, self.config.model.attention)
        return FAMILIES[settings.model_type].hands_pictures

    def _check_trainable(self, piece: Piece) -> None:
        """Raises ConfigError for a piece without a trainable tensor, by the settings that select them."""
        if trainable(piece):
            return
        adapter, cut, blocks = self.config.adapter, self.config.partition.cut, piece.blocks
        sides = {"head": adapter.head} if blocks.start < cut else {}
        sides |= {"body": adapter.body} if blocks.stop > cut else {}
        keys = {name: "frozen_modules" if trains_all(side) else "targets" for name, side in sides.items()}
        given = " and ".join(
            f"adapter.{name}.{key} {list(value_of(sides[name], key) or ())}" for name, key in keys.items()
        )
        raise ConfigError(
            f"{given} leave nothing to train in blocks {blocks.start}..{blocks.stop - 1}: name other modules"
        )

    def _check_start(self, piece: Piece) -> None:
        """Adds the checksums of the adapter's start to those of the weights, and compares them."""
        adapter = self.config.adapter
        if not adapter.start or not piece.checksums:
            return
        own = start_checksums(start_tensors(piece, trainable(piece), adapter, self.config.partition.cut))
        piece.checksums = {**piece.checksums, **own}
        if self.weights:
            refuse_other_start(own, self.weights, adapter.start)

    def _load(
        self,
        first: int,
        last: int,
        shortened_to: int | None = None,
        *,
        is_bare: bool = False,
        is_checked: bool = False,
        trains_top: bool = False,
        must_train: bool = True,
    ) -> Piece:
        config = self.config
        folder = resolve(config.model.name)
        is_text = self.task.kind != IMAGE_CLASSIFICATION
        piece = load_piece(
            folder,
            self.task.kind,
            first,
            last,
            num_labels=self.task.num_labels,
            problem_type=self.task.problem_type,
            pad_token_id=padding_token(folder) if is_text else None,
            dtype=config.model.dtype,
            attention=config.model.attention,
            seed=config.train.seed,
            device=self.device,
            is_shape_only=self.is_shape_only,
            shortened_to=shortened_to,
            new_classifier=config.model.new_classifier,
            quantisation=quantisation_of(config.model),
            on_block=self.on_block,
        )
        if self.task.label_names:
            name_classes(piece.model.config, self.task.label_names)
        if (self.weights or is_checked) and not self.is_shape_only:
            piece.checksums = checksums(piece)
        if self.weights:
            refuse_other_weights(piece.checksums, self.weights, str(folder))
        if is_bare:
            piece.requires_grad_(False)
        else:
            add_adapters(piece, config.adapter, config.partition.cut, config.train.seed)
            self._check_start(piece)
            if trains_top:
                train_top(piece)
            if must_train:
                self._check_trainable(piece)
        return piece
