"""MQTT as a plug-in."""

from dataclasses import dataclass
from typing import Final

from splitfl.config import TransportConfig, group
from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import refuse_unknown
from splitfl.transport.base.reachability import Diagnosis, Reach
from splitfl.transport.base.spec import Joining, TransportSpec
from splitfl.transport.base.transport import ClientEnd, ServerEnd
from splitfl.transport.security.credentials import TlsFiles


@dataclass(frozen=True, kw_only=True)
class MqttSettings:
    """`topic` is the run's name at the broker (empty: a new one), where `user` and `password_file` log in."""

    tls: TlsFiles = group(TlsFiles)
    topic: str = ""
    user: str = ""
    password_file: str = ""


def _serve(config: TransportConfig, clients: int) -> ServerEnd:
    from splitfl.transport.mqtt.server import serve_mqtt

    return serve_mqtt(config, clients)


def _join(joining: Joining) -> ClientEnd:
    from splitfl.transport.mqtt.broker import Broker
    from splitfl.transport.mqtt.broker_survey import largest_chunk
    from splitfl.transport.mqtt.client import MqttConnector
    from splitfl.transport.session.client import SessionClient

    if joining.credentials.token_file:
        raise ConfigError("a broker takes no tokens: give --user and --password-file")
    broker = Broker.parse(joining.address, joining.credentials, joining.user, joining.password_file)
    chunk_bytes = largest_chunk(broker, broker.line("up", joining.client, "survey"), joining.timeout_s)
    connector = MqttConnector(broker, joining.client, chunk_bytes)
    return SessionClient(connector, joining.address, joining.client, None, joining.timeout_s)


def _check_server(config: TransportConfig) -> None:
    from splitfl.transport.mqtt.broker import Broker

    broker = Broker.of(config)
    broker.check()
    refuse_unknown(broker.host)


def _check_join(joining: Joining) -> None:
    from splitfl.transport.mqtt.broker import Broker

    broker = Broker.parse(joining.address, joining.credentials, joining.user, joining.password_file)
    broker.check()
    refuse_unknown(broker.host)


def _join_options(config: TransportConfig) -> list[str]:
    own, tls = config.of(MqttSettings), config.of(TlsFiles)
    given = {"--user": own.user, "--password-file": own.password_file, "--tls-ca": tls.tls_ca}
    given |= {"--tls-cert": tls.tls_cert, "--tls-key": tls.tls_key}
    return [word for option, value in given.items() if value for word in (option, value)]


def _warning(config: TransportConfig) -> str:
    return "" if config.of(TlsFiles).tls_ca else "anyone with access to the broker can join the run"


def _diagnose(reach: Reach) -> Diagnosis:
    outcomes = [*((one.client, one.broker) for one in reach.clients), ("the server", reach.server_to_broker)]
    if all(outcome == "unknown" for _, outcome in outcomes):
        return Diagnosis(works=False, why="the inventory names no [broker]")
    closed = [f"{node} finds it {outcome}" for node, outcome in outcomes if outcome != "open"]
    if closed:
        return Diagnosis(works=False, why=f"the broker is away: {'; '.join(closed)}")
    return Diagnosis(works=True, why="every client and the server reach the broker")


SPEC: Final = TransportSpec(
    about="MQTT: through a broker that both sides reach, where neither reaches the other",
    describe="in separate processes over MQTT",
    serve=_serve,
    join=_join,
    check_server=_check_server,
    check_join=_check_join,
    join_options=_join_options,
    settings=MqttSettings,
    resumes=True,
    own_host=False,
    warning=_warning,
    encrypts=lambda config: bool(config.of(TlsFiles).tls_ca),
    diagnose=_diagnose,
)
