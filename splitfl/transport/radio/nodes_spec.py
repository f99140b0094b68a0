"""Tokens over the waveform between processes: frames cross an air, and gRPC controls the exchange."""

from dataclasses import dataclass, replace
from typing import Final

from splitfl.config import TransportConfig, group
from splitfl.core.errors import ConfigError
from splitfl.transport.base.spec import TransportSpec
from splitfl.transport.grpc import spec as grpc
from splitfl.transport.grpc.spec import GrpcSettings
from splitfl.transport.radio.spec import RadioSettings, describe_link


@dataclass(frozen=True, kw_only=True)
class RadioNodeSettings:
    """The settings of gRPC, which controls the exchange, and those of the waveform."""

    control: GrpcSettings = group(GrpcSettings)
    waveform: RadioSettings = group(RadioSettings)


def _check_server(config: TransportConfig) -> None:
    if not config.of(RadioSettings).air_port:
        raise ConfigError("transport.air_port must be the port of an air (`splitfl channel air`), got 0")
    grpc.SPEC.check_server(config)


SPEC: Final[TransportSpec] = replace(
    grpc.SPEC,
    about="a radio for each process, around an air in another; tokens may be lost; gRPC for control",
    describe="in separate processes over a radio waveform, controlled over gRPC",
    settings=RadioNodeSettings,
    check_server=_check_server,
    describe_link=describe_link,
    diagnose=None,  # it needs an air besides what gRPC needs
)
