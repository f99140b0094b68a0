"""A frame: one message as one safetensors blob whose metadata is a small typed header.

Nothing in a frame is executed or unpickled. Lengths are checked before allocation, and the header
against the fields of its kind of message: tensors become tensors of the blob under their field's
name, all other values a field of the header.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_args, get_type_hints

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from splitfl.config import EXACT, CodecConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import LOST, Lost, Message, Reply
from splitfl.wire.codecs.chain import keyed_of
from splitfl.wire.rows import Coded, decode_rows, encode_rows, received_codec

VERSION: Final = "2"
MAX_FRAME_BYTES: Final = 2 << 30
MAX_HEADER_BYTES: Final = 4 << 20
_LENGTH_BYTES: Final = 8  # safetensors starts with its header's length, little-endian
ROWS: Final = {"Activation": "hidden", "Output": "hidden", "Gradient": "grad"}
_LARGEST: Final = 1 << 63


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The sender (or the addressee of a reply), the message's place in the run, and the sender's
    floating-point operations since its last message."""

    client: int
    round: int
    lap: int
    flops: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The server refuses to continue with this client, with the reason.

    If `is_final`, permanently; else the client must send a `Join`.
    """

    reason: str
    is_final: bool = True


_KINDS: Final[dict[str, type]] = {kind.__name__: kind for kind in (*get_args(Message), Refusal)}


class Frame:
    """A received frame; its header is parsed and checked once, its tensors are loaded by `message`."""

    def __init__(self, data: bytes, max_bytes: int = MAX_FRAME_BYTES) -> None:
        """Raises WireError for bytes that are not a frame, and for another version."""
        self.data = data
        self._max_bytes = max_bytes
        header = _header(data, max_bytes)
        try:
            self.kind = _text(header["kind"])
            self._fields: Mapping[str, Any] = header.get("fields", {})
            name, *_ = header.get("codec", ["none"])
            self.codec = str(name)  # of its rows
            self._coded = [header["codec"]] if "codec" in header else []
            self.envelope = _envelope(*header["envelope"])
        except (LookupError, TypeError, ValueError) as error:
            raise WireError(f"a frame of {len(data)} bytes has no envelope: {error}") from None

    def __len__(self) -> int:
        return len(self.data)

    def message(self) -> Reply | Refusal:
        """The message, its tensors on the CPU; raises WireError for fields or tensors that do not fit it."""
        try:
            tensors = safetensors.torch.load(self.data)
            for codec in self._coded:
                _decode_rows(tensors, self.kind, *codec, max_bytes=self._max_bytes)
            message = _assembled(self.kind, self._fields, tensors)
        except WireError:
            raise
        except (safetensors.SafetensorError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise WireError(f"a frame of {len(self.data)} bytes is damaged: {error}") from None
        if tensors:  # tensors with a field were removed
            raise WireError(f"a message of kind {self.kind} has unknown tensors {sorted(tensors)}")
        return message


def encode(message: Reply | Refusal, envelope: Envelope, codec: CodecConfig = EXACT) -> bytes:
    """The frame of this message, whose length is the link's payload.

    The frame names the codec of its rows.
    """
    kind = type(message).__name__
    fields, tensors = ({}, {}) if isinstance(message, Lost) else _disassembled(message)
    header: dict[str, Any] = {
        "version": VERSION,
        "kind": kind,
        "envelope": [envelope.client, envelope.round, envelope.lap, _hex(envelope.flops)],
        **({"fields": fields} if fields else {}),
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    chosen, rows = codec_name(codec, message), ROWS.get(kind)
    if rows in whole and chosen != "none":
        coded = encode_rows(whole[rows], chosen)
        header["codec"] = [coded.codec, coded.dtype, coded.width]
        whole |= {_tensor(rows, name): part for name, part in coded.parts.items()}
    return safetensors.torch.save(whole, {"splitfl": json.dumps(header, separators=(",", ":"))})


def codec_name(codec: CodecConfig, message: Reply | Refusal) -> str:
    """The codec of this message's rows, as its frame names it; `none` without rows."""
    kind = type(message).__name__
    return keyed_of(getattr(codec, kind.lower()))[1] if kind in ROWS else "none"


def decode(data: bytes, max_bytes: int = MAX_FRAME_BYTES) -> tuple[Reply | Refusal, Envelope]:
    """The message in this frame, its tensors on the CPU; raises WireError for anything else."""
    frame = Frame(data, max_bytes)
    return frame.message(), frame.envelope


def _header(data: bytes, max_bytes: int) -> dict[str, Any]:
    if not _LENGTH_BYTES <= len(data) <= max_bytes:
        raise WireError(f"a frame must have {_LENGTH_BYTES} to {max_bytes} bytes, got {len(data)}")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > min(MAX_HEADER_BYTES, len(data) - _LENGTH_BYTES):
        raise WireError(f"a frame of {len(data)} bytes has an invalid header length, {length}")
    try:
        outer = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        header = json.loads(outer["__metadata__"]["splitfl"], parse_int=_integer)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WireError(f"a frame of {len(data)} bytes has no readable header") from None
    if not isinstance(header, dict):
        raise WireError(f"a frame's header must be an object, got {type(header).__name__}")
    if header.get("version") != VERSION:
        raise WireError(
            f"a frame has wire format {header.get('version')!r}, must be {VERSION!r}: install the "
            "same version of splitfl on all machines"
        )
    return header


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The fields of a kind of message: single tensors, mappings of tensors, and the types of all others."""

    tensors: tuple[str, ...]
    mappings: dict[str, str]  # to the prefix of their tensors' names: "" of a kind without other tensors
    plain: dict[str, Any]


@cache
def _layout(kind: str) -> _Layout:
    hints = get_type_hints(_KINDS[kind], include_extras=True)
    tensors = tuple(name for name, hint in hints.items() if hint in (Tensor, Tensor | None))
    mappings = [name for name, hint in hints.items() if hint == Mapping[str, Tensor]]
    return _Layout(
        tensors=tensors,
        mappings={name: f"{name}." if tensors or len(mappings) > 1 else "" for name in mappings},
        plain={name: hint for name, hint in hints.items() if name not in (*tensors, *mappings)},
    )


def _disassembled(message: Message | Refusal) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The plain fields that differ from their defaults, and the tensors."""
    layout = _layout(type(message).__name__)
    tensors = {name: value for name in layout.tensors if (value := getattr(message, name)) is not None}
    for name, prefix in layout.mappings.items():
        tensors |= {f"{prefix}{key}": tensor for key, tensor in getattr(message, name).items()}
    fields = {}
    for one in dataclasses.fields(message):
        if one.name in layout.plain and (value := getattr(message, one.name)) != one.default:
            fields[one.name] = (
                _hex(value) if _is_float(layout.plain[one.name]) else msgspec.to_builtins(value)
            )
    return fields, tensors


def _assembled(kind: str, fields: Mapping[str, Any], tensors: dict[str, Tensor]) -> Reply | Refusal:
    """The message of these fields; removes its tensors from `tensors`."""
    if kind == type(LOST).__name__ and not fields:
        return LOST
    if kind not in _KINDS:
        raise WireError(f"a message has unknown kind {kind!r:.40}")
    layout = _layout(kind)
    if unknown := fields.keys() - layout.plain.keys():
        raise WireError(f"a message of kind {kind} has unknown fields {sorted(unknown)!r:.80}")
    values: dict[str, Any] = {name: _plain(value, layout.plain[name]) for name, value in fields.items()}
    values |= {name: tensors.pop(name) for name in layout.tensors if name in tensors}
    for name, prefix in layout.mappings.items():
        keys = [key for key in tensors if key.startswith(prefix)]
        values[name] = {key.removeprefix(prefix): tensors.pop(key) for key in keys}
    message: Message | Refusal = _KINDS[kind](**values)
    return message


def _plain(value: Any, hint: Any) -> Any:
    """A field of the header as its type; raises msgspec's ValidationError (a ValueError) for another type."""
    if _is_float(hint):
        numbers = _from_hex(value)
        if hint == tuple[float, ...]:
            return numbers
        (number,) = numbers
        return number
    converted = msgspec.convert(value, hint)
    if isinstance(value, dict) and msgspec.to_builtins(converted) != value:
        raise ValueError(f"{value!r:.80} has a key that does not exist")
    return converted


def _is_float(hint: Any) -> bool:
    return hint in (float, float | None, tuple[float, ...])


def _decode_rows(
    tensors: dict[str, Tensor], kind: str, codec: object, dtype: object, width: object, *, max_bytes: int
) -> None:
    """Replaces the parts of encoded rows by the decoded rows."""
    if kind not in ROWS:
        raise WireError(f"a message of kind {kind:.40} has no rows that a codec could encode")
    rows, name = ROWS[kind], _text(codec)
    names = {part: _tensor(rows, part) for part in received_codec(name).parts}
    parts = {part: tensors.pop(its) for part, its in names.items() if its in tensors}
    coded = Coded(codec=name, dtype=_text(dtype), width=_whole(width), parts=parts)
    tensors[rows] = decode_rows(coded, max_bytes)


def _tensor(rows: str, part: str) -> str:
    """The name in a frame of a part of these rows; `codes` has the rows' name."""
    return rows if part == "codes" else f"{rows}.{part}"


def _envelope(client: object, round_index: object, lap: object, flops: object) -> Envelope:
    (spent,) = _from_hex(flops)
    if not 0.0 <= spent < math.inf:
        raise ValueError(f"flops must be at least 0, got {spent}")
    return Envelope(client=_whole(client), round=_whole(round_index), lap=_whole(lap), flops=spent)


def _integer(text: str) -> int:
    if not -_LARGEST <= (value := int(text)) < _LARGEST:
        raise ValueError(f"must be a whole number of 64 bits, got {text:.40}")
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"must be a whole number, got {value!r:.40}")
    return value


def _hex(value: float | tuple[float, ...]) -> str:
    """Sixteen hex digits per number, so that a frame's length does not depend on values."""
    values = value if isinstance(value, tuple) else (value,)
    return struct.pack(f">{len(values)}d", *values).hex()


def _from_hex(text: object) -> tuple[float, ...]:
    packed = bytes.fromhex(_text(text))
    if len(packed) % 8:
        raise ValueError(f"numbers must have 16 digits each, got {len(packed) * 2}")
    return struct.unpack(f">{len(packed) // 8}d", packed)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be a string, got {value!r:.40}")
    return value
