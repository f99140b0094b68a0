"""A frame: one message as one safetensors blob whose metadata is a small typed header.

Nothing in a frame is ever executed or unpickled. Lengths are checked before anything
is allocated, the header against the one kind of message that it names.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import safetensors
import safetensors.torch
from torch import Tensor

from splitfl.config import EXACT, CodecConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import LOST, Activation, Adapter, Control, Gradient, Lost, Output, Reply, Scalars
from splitfl.wire.rows import Coded, decode_rows, encode_rows, received_codec

VERSION: Final = "1"
MAX_FRAME_BYTES: Final = 2 << 30
MAX_HEADER_BYTES: Final = 4 << 20
_LENGTH_BYTES: Final = 8  # safetensors begins with the length of its JSON header, little-endian
_ROWS: Final = {"Activation": "hidden", "Output": "hidden", "Gradient": "grad"}


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What the sender says beside a message: who it is, where in the run it stands, and
    the floating-point operations it spent since its last message."""

    client: int
    round: int
    lap: int
    flops: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The server will not go on with this client, and why.

    Where it `is_final` it never will; else the client is to ask where to go on.
    """

    reason: str
    is_final: bool = True


def encode(message: Reply | Refusal, envelope: Envelope, codec: CodecConfig = EXACT) -> bytes:
    """The frame of this message; its length is what the link is charged for.

    It says itself by which codec its rows were encoded.
    """
    kind = type(message).__name__
    fields, tensors = _take_apart(message)
    header: dict[str, Any] = {
        "version": VERSION,
        "kind": kind,
        "envelope": [envelope.client, envelope.round, envelope.lap, envelope.flops],
        **({"fields": fields} if fields else {}),
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    chosen, rows = codec.of(kind), _ROWS.get(kind)
    if rows in whole and chosen != "none":
        coded = encode_rows(whole[rows], chosen)
        header["codec"] = [coded.codec, coded.dtype, coded.width]
        whole |= {_tensor(rows, name): part for name, part in coded.parts.items()}
    return safetensors.torch.save(whole, {"splitfl": json.dumps(header, separators=(",", ":"))})


def decode(frame: bytes, max_bytes: int = MAX_FRAME_BYTES) -> tuple[Reply | Refusal, Envelope]:
    """The message in this frame, its tensors on the CPU; raises WireError for anything else."""
    header = _header(frame, max_bytes)
    if header.get("version") != VERSION:
        raise WireError(f"a frame of version {header.get('version')!r} came; this side speaks {VERSION!r}")
    try:
        tensors = safetensors.torch.load(frame)
        if "codec" in header:
            _decode_rows(tensors, str(header.get("kind")), *header["codec"], max_bytes=max_bytes)
        envelope = _envelope(*header["envelope"])
        message = _put_together(str(header.get("kind")), header.get("fields", {}), tensors)
    except WireError:
        raise
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"a damaged frame of {len(frame)} bytes came: {error}") from None
    if tensors:  # whatever a message has no place for is still here
        kind = type(message).__name__
        raise WireError(f"a message of kind {kind} came with unknown tensors {sorted(tensors)}")
    return message, envelope


def sender(frame: bytes) -> int:
    """Whose frame this says it is; see `envelope_of`."""
    return envelope_of(frame).client


def envelope_of(frame: bytes) -> Envelope:
    """A frame's envelope, without a look at its tensors; raises WireError for what is no frame."""
    try:
        return _envelope(*_header(frame, MAX_FRAME_BYTES)["envelope"])
    except (LookupError, TypeError, ValueError) as error:
        raise WireError(f"a frame of {len(frame)} bytes has no envelope: {error}") from None


def codec_of(frame: bytes) -> str:
    """By which codec the rows of a frame were encoded that could be decoded; `none` where by none."""
    name, *_ = _header(frame, MAX_FRAME_BYTES).get("codec", ["none"])
    return str(name)


def _header(frame: bytes, max_bytes: int) -> dict[str, Any]:
    if not _LENGTH_BYTES <= len(frame) <= max_bytes:
        raise WireError(f"a frame must have {_LENGTH_BYTES} to {max_bytes} bytes, got {len(frame)}")
    length = int.from_bytes(frame[:_LENGTH_BYTES], "little")
    if length > min(MAX_HEADER_BYTES, len(frame) - _LENGTH_BYTES):
        raise WireError(f"a frame of {len(frame)} bytes says that its header has {length}")
    try:
        header = json.loads(
            json.loads(frame[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"]["splitfl"]
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WireError(f"a frame of {len(frame)} bytes has no readable header") from None
    if not isinstance(header, dict):
        raise WireError(f"a frame's header must be an object, got {type(header).__name__}")
    return header


def _take_apart(message: Reply | Refusal) -> tuple[dict[str, Any], dict[str, Tensor]]:
    match message:
        case Control():
            return {
                "ask": message.ask,
                "round": message.round,
                "steps": message.steps,
                "values": dict(message.values),
            }, {}
        case Activation():
            tensors = {"ids": message.ids_B}
            tensors |= {f"context.{name}": tensor for name, tensor in message.context.items()}
            tensors |= {"hidden": message.hidden} if message.hidden is not None else {}
            tensors |= {"labels": message.labels} if message.labels is not None else {}
            return {}, tensors
        case Output():
            return {}, {"ids": message.ids_B, "hidden": message.hidden}
        case Gradient():
            loss = {"loss": _hex((message.loss,))} if message.loss is not None else {}
            return loss, {"ids": message.ids_B, "grad": message.grad}
        case Scalars():
            counts = {"round": message.round, "steps": list(message.steps), "samples": message.samples}
            return counts | {"losses": _hex(message.losses)}, {"values": message.values}
        case Adapter():
            counts = {"version": message.version, "samples": message.samples}
            values = {"values": dict(message.values)} if message.values else {}
            return counts | {"losses": _hex(message.losses)} | values, dict(message.tensors)
        case Lost():
            return {}, {}
        case Refusal():
            return {"reason": message.reason, "is_final": message.is_final}, {}


def _put_together(kind: str, fields: Mapping[str, Any], tensors: dict[str, Tensor]) -> Reply | Refusal:
    """The message of these fields, with its tensors taken out of `tensors`."""
    match kind:
        case "Control":
            values = _values(fields["values"])
            ask, round_index, steps = _text(fields["ask"]), _whole(fields["round"]), _whole(fields["steps"])
            return Control(ask=ask, round=round_index, steps=steps, values=values)
        case "Activation":
            names = [name for name in tensors if name.startswith("context.")]
            return Activation(
                ids_B=tensors.pop("ids"),
                hidden=tensors.pop("hidden", None),
                labels=tensors.pop("labels", None),
                context={name.removeprefix("context."): tensors.pop(name) for name in names},
            )
        case "Output":
            return Output(ids_B=tensors.pop("ids"), hidden=tensors.pop("hidden"))
        case "Gradient":
            (loss,) = _from_hex(fields["loss"]) if "loss" in fields else (None,)
            return Gradient(ids_B=tensors.pop("ids"), grad=tensors.pop("grad"), loss=loss)
        case "Scalars":
            return Scalars(
                round=_whole(fields["round"]),
                values=tensors.pop("values"),
                steps=tuple(_whole(count) for count in fields["steps"]),
                samples=_whole(fields["samples"]),
                losses=_from_hex(fields["losses"]),
            )
        case "Adapter":
            losses = _from_hex(fields["losses"])
            version, samples = _whole(fields["version"]), _whole(fields["samples"])
            named, values = (
                {name: tensors.pop(name) for name in list(tensors)},
                _values(fields.get("values", {})),
            )
            return Adapter(version=version, samples=samples, losses=losses, tensors=named, values=values)
        case "Lost":
            return LOST
        case "Refusal":
            return Refusal(reason=_text(fields["reason"]), is_final=fields["is_final"] is not False)
        case _:
            raise WireError(f"a message of unknown kind {kind!r} came")


def _decode_rows(
    tensors: dict[str, Tensor], kind: str, codec: object, dtype: object, width: object, *, max_bytes: int
) -> None:
    """Puts the decoded rows in the place of their parts."""
    if kind not in _ROWS:
        raise WireError(f"a message of kind {kind:.40} has no rows that a codec could encode")
    rows, name = _ROWS[kind], _text(codec)
    names = {part: _tensor(rows, part) for part in received_codec(name).parts}
    parts = {part: tensors.pop(its) for part, its in names.items() if its in tensors}
    coded = Coded(codec=name, dtype=_text(dtype), width=_whole(width), parts=parts)
    tensors[rows] = decode_rows(coded, max_bytes)


def _tensor(rows: str, part: str) -> str:
    """The name in a frame of a part of these rows: the codes stand in the rows' own place."""
    return rows if part == "codes" else f"{rows}.{part}"


def _envelope(client: object, round_index: object, lap: object, flops: object) -> Envelope:
    spent = _number(flops)
    if not 0.0 <= spent < math.inf:
        raise ValueError(f"flops must be at least 0, got {spent}")
    return Envelope(client=_whole(client), round=_whole(round_index), lap=_whole(lap), flops=spent)


def _whole(value: object) -> int:
    if type(value) is not int or abs(value) >= 1 << 63:
        raise TypeError(f"must be a whole number of 64 bits, got {value!r:.40}")
    return value


def _hex(values: Sequence[float]) -> str:
    """Sixteen digits a number, whatever it is: a frame's length does not depend on what was learnt."""
    return struct.pack(f">{len(values)}d", *values).hex()


def _from_hex(text: object) -> tuple[float, ...]:
    packed = bytes.fromhex(_text(text))
    if len(packed) % 8:
        raise ValueError(f"numbers must have 16 digits each, got {len(packed) * 2}")
    return struct.unpack(f">{len(packed) // 8}d", packed)


def _values(named: Mapping[str, object]) -> dict[str, float]:
    return {_text(name): _number(value) for name, value in named.items()}


def _number(value: object) -> float:
    if type(value) is float:
        return value
    return float(_whole(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be a string, got {value!r:.40}")
    return value
