"""Who sees what in a run, from the specifications of its method and transport."""

from collections.abc import Mapping
from dataclasses import dataclass

from splitfl.config import RunConfig
from splitfl.core.messages import Adapter, Gradient, Message, Scalars, WeightGradients
from splitfl.methods.parts.spec import MethodSpec
from splitfl.methods.registry import METHODS
from splitfl.transport.registry import transport


@dataclass(frozen=True, kw_only=True)
class View:
    """What a party receives in a run, what it holds besides, and what it could change."""

    party: str
    sees: str
    holds: str
    can_change: str


@dataclass(frozen=True, kw_only=True)
class MethodExposure:
    """What a method's clients send of their data, and what the server's replies can change."""

    hidden_states: str
    labels: str
    uploads: str
    replies: str


def views(config: RunConfig) -> list[View]:
    """What each party sees with these settings."""
    method = METHODS[config.method.name]
    exposed, begin = exposure_of(method), _NOUNS.get(method.signature.begin, "")
    return [
        View(
            party="server",
            sees=_joined(
                exposed.hidden_states and f"hidden states {exposed.hidden_states}, sample numbers, padding",
                f"labels: {exposed.labels}",
                f"the sum of all clients' {begin}" if config.analog.sum_adapters else exposed.uploads,
            ),
            holds=_joined(
                "the base model's weights, those of head and tail too",
                f"the aggregated {begin}" if begin else "",
            ),
            can_change=_joined(exposed.replies, "the aggregate that each client receives" if begin else ""),
        ),
        View(
            party="client",
            sees=_joined(
                f"the aggregated {begin}" if begin else "",
                "replies to its own messages",
            ),
            holds="the base model's weights, its own data",
            can_change="its own messages, and so the body and the aggregate",
        ),
        View(party="network", sees=_network(config), holds="nothing", can_change=_network_changes(config)),
        View(
            party="radio receiver",
            sees=_radio(config),
            holds="the link's settings",
            can_change="which packets arrive, by interference",
        ),
    ]


def exposures() -> dict[str, MethodExposure]:
    """What each method's clients send, by the method's name."""
    return {name: exposure_of(spec) for name, spec in METHODS.items()}


def exposure_of(spec: MethodSpec) -> MethodExposure:
    """What the clients of a method send, from its specification."""
    exchanges, end = spec.signature.step, spec.signature.end
    sends_hidden = "activation" in spec.signature.row_messages()
    labels = {"sent": "sent", "in gradients": "computable from gradients and losses", "kept": "not sent"}
    sent, replies = {message for message, _ in exchanges}, {reply for _, reply in exchanges}
    return MethodExposure(
        hidden_states=spec.activations if sends_hidden else "",
        labels=labels[spec.labels],
        uploads=_joined(
            f"each client's {_NOUNS[end[0]]}" if end is not None and end[0] in _NOUNS else "",
            "each client's gradient of all weights, at each step" if WeightGradients in sent else "",
        ),
        replies=_joined(
            "gradients that train the client" if Gradient in replies else "",
            "scalars that move the client along its own directions" if Scalars in replies else "",
        ),
    )


_NOUNS: Mapping[type[Message], str] = {Adapter: "adapters", Scalars: "scalars"}


def _network(config: RunConfig) -> str:
    spec = transport(config.transport.name)
    if spec.in_process:
        return "nothing: server and clients are one process"
    if not spec.encrypts(config.transport):
        return "every message: these settings of the transport do not encrypt"
    broker = "" if spec.own_host or spec.combines else "; the broker sees every message"
    return f"sizes and times of frames (TLS){broker}"


def _network_changes(config: RunConfig) -> str:
    spec = transport(config.transport.name)
    if spec.in_process:
        return "nothing"
    return "when frames arrive" if spec.encrypts(config.transport) else "every message"


def _radio(config: RunConfig) -> str:
    if config.analog.kinds:
        kinds = " and ".join(config.analog.kinds)
        return f"the numbers of every {kinds} with its own noise: they are sent as analog symbols, uncoded"
    return "sizes and times of packets; their bits too where the transport does not encrypt"


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))
