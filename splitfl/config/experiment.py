"""The settings of an experiment."""

from dataclasses import dataclass, field

from splitfl.config.codec import CodecConfig
from splitfl.config.data import FederationConfig, TaskConfig
from splitfl.config.erasure import AnalogConfig, ErasureConfig
from splitfl.config.learning import AutoConfig, EvalConfig, MethodConfig, TrainConfig
from splitfl.config.link import LinkConfig, LiveConfig, RadioConfig
from splitfl.config.model import AdapterConfig, ModelConfig, PartitionConfig
from splitfl.config.nodes import DeviceConfig, FaultToleranceConfig, ServerConfig, TransportConfig
from splitfl.config.privacy import PrivacyConfig
from splitfl.config.tracking import TrackingConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of an experiment; each field is a table of the TOML file."""

    model: ModelConfig = field(default_factory=ModelConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    erasure: ErasureConfig = field(default_factory=ErasureConfig)
    analog: AnalogConfig = field(default_factory=AnalogConfig)
    live: LiveConfig = field(default_factory=LiveConfig)
    radio: RadioConfig = field(default_factory=RadioConfig)
    client: DeviceConfig = field(default_factory=DeviceConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    fault_tolerance: FaultToleranceConfig = field(default_factory=FaultToleranceConfig)
    auto: AutoConfig = field(default_factory=AutoConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
