"""JSON encoding of an emulation or a scenario, for the process that runs it; nothing is unpickled.

A dataclass becomes an object with one key, its class name, that holds its fields; a numpy array becomes an
object with its dtype as the key; a tuple becomes an array. Only classes of KINDS are instantiated on reading.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TypeVar

import numpy as np

from channel.core.errors import BadParameter
from channel.links.fixed import Direction, FixedLink
from channel.links.loss import Bernoulli, GilbertElliott, RecordedLoss
from channel.links.recordings import LinkTrace
from channel.links.trace import OpportunityRecording, RateRecording, TraceLink
from channel.live.emulation import Emulation
from channel.live.switch import DeliveryOrder
from channel.scenario.load import TABLES, Scenario

T = TypeVar("T")

KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(Emulation, DeliveryOrder, FixedLink, Direction, Bernoulli, GilbertElliott, RecordedLoss),
        *(TraceLink, RateRecording, OpportunityRecording, LinkTrace, Scenario),
        *TABLES.values(),
    )
}
"""The classes that an emulation may consist of."""

_DTYPES = ("bool", "float64", "int64")


def written(value: Emulation | Scenario) -> str:
    """One line of JSON. Raises BadParameter for an object whose class is not in KINDS."""
    return json.dumps(_plain(value))


def read(text: str | bytes) -> Emulation:
    """The inverse of `written` for an emulation. Raises BadParameter for anything else."""
    return _read(text, Emulation, "an emulation")


def read_scenario(text: str | bytes) -> Scenario:
    """The inverse of `written` for a scenario. Raises BadParameter for anything else."""
    return _read(text, Scenario, "a scenario")


def _read(text: str | bytes, kind: type[T], name: str) -> T:
    try:
        found = _made(json.loads(text))
    except BadParameter:
        raise
    except (ValueError, TypeError) as error:
        raise BadParameter(f"{name} must be JSON as `written` makes it: {error}") from error
    if not isinstance(found, kind):
        raise BadParameter(f"{name} must be of kind {kind.__name__}, got {type(found).__name__}")
    return found


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray) and str(value.dtype) in _DTYPES:
        return {str(value.dtype): value.tolist()}
    kind = type(value)
    if KINDS.get(kind.__name__) is not kind or not is_dataclass(value):
        raise BadParameter(f"a live link must consist of {', '.join(KINDS)}, got {kind.__name__}")
    return {kind.__name__: {one.name: _plain(getattr(value, one.name)) for one in fields(value)}}


def _made(plain: object) -> object:
    if isinstance(plain, list):
        return tuple(_made(one) for one in plain)
    if not isinstance(plain, Mapping):
        return plain
    if len(plain) != 1:
        raise BadParameter(f"an object must have one key, got {', '.join(plain)}")
    [(name, inside)] = plain.items()
    if name in _DTYPES:
        return np.asarray(inside, dtype=name)
    if name not in KINDS or not isinstance(inside, Mapping):
        raise BadParameter(f"an object must be one of {', '.join(KINDS)}, with its fields, got {name!r}")
    return KINDS[name](**{field: _made(one) for field, one in inside.items()})
