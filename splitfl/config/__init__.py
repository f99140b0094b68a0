"""Settings of experiments: frozen dataclasses whose ranges are checked at construction.

Every class is a table of the TOML file, every field a key. A value out of range, an unknown
table and an unknown key are errors that name the allowed ones.
"""

from splitfl.config.checks import above, at_least, nearest, one_of
from splitfl.config.codec import ADAPTER_KINDS, CODECS, EXACT, CodecConfig
from splitfl.config.data import FederationConfig, TaskConfig
from splitfl.config.erasure import POLICIES, AnalogConfig, ErasureConfig
from splitfl.config.experiment import RunConfig
from splitfl.config.learning import AutoConfig, EvalConfig, MethodConfig, TrainConfig
from splitfl.config.link import DirectionConfig, LinkConfig, LiveConfig, RadioConfig
from splitfl.config.model import AdapterConfig, ModelConfig, PartitionConfig, SideConfig
from splitfl.config.nodes import (
    SHARDS,
    TENSOR,
    DeviceConfig,
    FaultToleranceConfig,
    ServerConfig,
    TransportConfig,
)
from splitfl.config.plugin import (
    NoSettings,
    PluginTable,
    changed,
    chosen,
    group,
    key_types,
    key_values,
    made,
    value_of,
)
from splitfl.config.tracking import TrackingConfig

__all__ = [
    "ADAPTER_KINDS",
    "CODECS",
    "EXACT",
    "POLICIES",
    "SHARDS",
    "TENSOR",
    "AdapterConfig",
    "AnalogConfig",
    "AutoConfig",
    "CodecConfig",
    "DeviceConfig",
    "DirectionConfig",
    "ErasureConfig",
    "EvalConfig",
    "FaultToleranceConfig",
    "FederationConfig",
    "LinkConfig",
    "LiveConfig",
    "MethodConfig",
    "ModelConfig",
    "NoSettings",
    "PartitionConfig",
    "PluginTable",
    "RadioConfig",
    "RunConfig",
    "ServerConfig",
    "SideConfig",
    "TaskConfig",
    "TrackingConfig",
    "TrainConfig",
    "TransportConfig",
    "above",
    "at_least",
    "changed",
    "chosen",
    "group",
    "key_types",
    "key_values",
    "made",
    "nearest",
    "one_of",
    "value_of",
]
