"""The server's side of a run on one device, in this process."""

from collections.abc import Mapping
from typing import Any

from splitfl.evaluation.whole_model import OneDeviceModel, WholeModel
from splitfl.methods.parts.method import ServerMethod
from splitfl.setup.experiment import Experiment
from splitfl.wire.codec_meter import CodecMeter


class OneDevice:
    """See ServerSide; the model is loaded when it is first needed."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._unused: OneDeviceModel | None = None
        self._checksums: Mapping[str, str] | None = None

    @property
    def checksums(self) -> Mapping[str, str]:
        if self._checksums is None:
            self._unused = OneDeviceModel(self._experiment)
            self._checksums = self._unused.checksums
        return self._checksums

    def method(self, meter: CodecMeter) -> ServerMethod:
        return self._experiment.server_method(meter)

    def model(self) -> WholeModel:
        model, self._unused = self._unused or OneDeviceModel(self._experiment), None
        return model

    def memory(self) -> list[Mapping[str, Any]]:
        return []
