"""What the server received in a round, one sample at a time, as a file in the run's folder."""

# T real tokens of a sample that were received, D hidden

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from splitfl.core import checkpoint
from splitfl.core.errors import ConfigError
from splitfl.core.state import part, under

FOLDER: Final = "observed"
"""The folder of observations inside the run's."""

_TENSORS: Final = ("places_T", "hidden_TD", "output_TD", "grad_TD")
_NUMBERS: Final = ("client", "lap", "number", "batch_size")


@dataclass(frozen=True, kw_only=True, eq=False)
class ObservedSample:
    """One sample of a message: sample `number` of `client`, in the message `lap` of the round.

    `places_T` (int64) are the positions of the tokens received, `hidden_TD` their hidden states at the cut.
    In `ushape`, `output_TD` is what the server computed from them, and `grad_TD` the gradient that came back
    for it, of the mean loss of a batch of `batch_size` samples.
    """

    client: int
    lap: int
    number: int
    batch_size: int
    places_T: Tensor
    hidden_TD: Tensor
    output_TD: Tensor | None = None
    grad_TD: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """The observed samples of a round, and the server's `trained` tensors when the round began."""

    round: int
    samples: tuple[ObservedSample, ...]
    trained: Mapping[str, Tensor] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes the observation into the run's folder, replacing an older one of the same round."""
        tensors = under("trained", dict(self.trained))
        for index, sample in enumerate(self.samples):
            found = {name: getattr(sample, name) for name in _TENSORS}
            tensors |= under(str(index), {name: one for name, one in found.items() if one is not None})
        numbers = [{name: getattr(sample, name) for name in _NUMBERS} for sample in self.samples]
        metadata = {"round": str(self.round), "samples": json.dumps(numbers)}
        checkpoint.save(_path(folder, self.round), tensors, metadata)

    @classmethod
    def load(cls, folder: Path, round_index: int) -> "Observation":
        """The observation of this round; raises ConfigError if it is missing or damaged."""
        path = _path(folder, round_index)
        tensors, metadata = checkpoint.restore(path)
        try:
            numbers: list[dict[str, Any]] = json.loads(metadata["samples"])
            samples = tuple(
                _sample({name: int(one[name]) for name in _NUMBERS} | part(tensors, str(index)))
                for index, one in enumerate(numbers)
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is not an observation of splitfl: {error}") from None
        return cls(round=round_index, samples=samples, trained=part(tensors, "trained"))


def _sample(values: Mapping[str, Any]) -> ObservedSample:
    return ObservedSample(**values)


def observed_rounds(folder: Path) -> list[int]:
    """The rounds that were observed in the run of this folder, in ascending order."""
    found = [path.stem.partition("-")[2] for path in (folder / FOLDER).glob("round-*.safetensors")]
    return sorted(int(number) for number in found if number.isdigit())


def _path(folder: Path, round_index: int) -> Path:
    return folder / FOLDER / f"round-{round_index}.safetensors"
