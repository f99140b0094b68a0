"""The unsplit model of a run: evaluated after rounds, and exported at the end."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from splitfl.adapters.inject import held, install
from splitfl.evaluation.evaluate import measured
from splitfl.models.cut import Piece
from splitfl.setup.experiment import Experiment

Measured = tuple[dict[str, float], list[list[int]] | None]
"""Metrics by name, and the triples of the confusion matrix of a task with classes."""


class WholeModel(Protocol):
    """The unsplit model, on one device or on several ranks."""

    @property
    def checksums(self) -> Mapping[str, str]:
        """The checksums of its initial weights."""

    def held(self) -> dict[str, Tensor]:
        """The tensors that training changes, by name, as they are here."""

    def measured(self, trained: Mapping[str, Tensor]) -> Measured:
        """The metrics on the held-out data with these trained tensors."""

    def exported(self) -> Piece:
        """The model as one piece with all modules that an export of the trained tensors reads."""


class OneDeviceModel:
    """The unsplit model on the server's device."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment, self._piece = experiment, experiment.whole()

    @property
    def checksums(self) -> Mapping[str, str]:
        return self._piece.checksums

    def held(self) -> dict[str, Tensor]:
        return held(self._piece)

    def measured(self, trained: Mapping[str, Tensor]) -> Measured:
        install(self._piece, trained)
        return measured(self._piece.model, self._experiment)

    def exported(self) -> Piece:
        return self._piece
