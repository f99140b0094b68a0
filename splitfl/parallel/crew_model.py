"""The unsplit model over the ranks: the head is on rank 0, the body on all."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from splitfl.adapters.inject import held, install, overwrite
from splitfl.evaluation.evaluate import measured
from splitfl.evaluation.whole_model import Measured
from splitfl.methods.parts.server_model import copies
from splitfl.models.cut import Piece
from splitfl.models.families import LANGUAGE_MODELS
from splitfl.parallel.ranks import Ranks
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader


class CrewModel:
    """This rank's part of the unsplit model, with the body that the server's method trains."""

    def __init__(self, experiment: Experiment, loader: PieceLoader, body: Piece, ranks: Ranks) -> None:
        self._experiment, self._loader, self._body = experiment, loader, body
        self._head = loader.head() if ranks.rank == 0 else None
        self._chain = _Chain(self._head, body, ranks)

    def held(self) -> dict[str, Tensor]:
        """The tensors that training changes; only those of the body above rank 0."""
        return {**(held(self._head) if self._head is not None else {}), **held(self._body)}

    def of_body(self, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The trained tensors of the body."""
        own = held(self._body)
        return {name: value for name, value in trained.items() if name in own}

    def measured(self, trained: Mapping[str, Tensor]) -> Measured:
        """The metrics with these trained tensors; afterwards the body has its own again."""
        own = held(self._body)
        before, of_body = copies(own), self.of_body(trained)
        if self._head is not None:
            install(self._head, {name: value for name, value in trained.items() if name not in own})
        install(self._body, of_body)
        try:
            return measured(self._chain, self._experiment)
        finally:
            overwrite(own, before)

    def exported(self) -> Piece:
        """All modules of the unsplit model, with the values of a classifier and of no others."""
        whole = dataclasses.replace(self._loader, is_shape_only=True, device="cpu").whole()
        if whole.kind not in LANGUAGE_MODELS:
            top = self._loader.stage(range(self._loader.num_blocks, self._loader.num_blocks))
            for name, value in top.model.named_parameters():
                path, _, leaf = name.rpartition(".")
                whole.model.get_submodule(path)._parameters[leaf] = value
        return whole


class _Chain:
    """Head and body with the interface of the unsplit model; all ranks call it with the same inputs."""

    def __init__(self, head: Piece | None, body: Piece, ranks: Ranks) -> None:
        self._head, self._body, self._ranks = head, body, ranks
        self.device = torch.device(ranks.device)

    def __call__(self, *, labels: Tensor, **inputs: Tensor) -> Any:
        context = self._body.context_of(inputs)
        with torch.inference_mode(mode=False), torch.no_grad():  # tensors of inference cannot be trained with
            hidden_BTD = self._head(inputs) if self._head is not None else None
            if self._body.computed_by is None:  # every rank computes the same rows
                hidden_BTD = self._ranks.spread(hidden_BTD, 0)
            return self._body(torch.empty(0) if hidden_BTD is None else hidden_BTD, context, labels)
