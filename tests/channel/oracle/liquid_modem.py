"""OFDM packets of liquid-dsp, through the C symbols that its Python package exports."""

import ctypes
from dataclasses import dataclass, field

import numpy as np
import pytest

SIZE, PREFIX = 64, 16
CRC_32 = 6
# Schemes that its wheel has: a code that was not compiled in ends the process.
HAMMING_12_8, GOLAY_24_12 = 6, 7
QPSK, QAM16 = 40, 27


class _Properties(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint) for name in ("check", "fec0", "fec1", "mod_scheme")]


class _Stats(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_float) for name in ("evm", "rssi", "cfo")),
        ("framesyms", ctypes.c_void_p),
        *((name, ctypes.c_uint) for name in ("num", "mod_scheme", "mod_bps", "check", "fec0", "fec1")),
    ]


_BYTES = ctypes.POINTER(ctypes.c_ubyte)
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, _BYTES, ctypes.c_int, _BYTES, ctypes.c_uint, ctypes.c_int, _Stats, ctypes.c_void_p
)


@dataclass
class LiquidModem:
    """Transmitter and receiver of one modulation and code; `used` subcarriers of 64."""

    modulation: int
    code: int
    payloads: list[bytes] = field(default_factory=list)

    def __post_init__(self):
        module = pytest.importorskip(
            "liquid", reason="liquid-dsp is not installed: pip install 'splitfl[oracle]'"
        )
        self._library = ctypes.CDLL(module.__file__)
        for name in ("ofdmflexframegen_create", "ofdmflexframesync_create"):
            getattr(self._library, name).restype = ctypes.c_void_p
        kinds = (ctypes.c_ubyte * SIZE)()
        self._library.ofdmframe_init_default_sctype(SIZE, kinds)
        self.used = int(np.count_nonzero(np.frombuffer(kinds, dtype=np.uint8)))
        properties = _Properties(CRC_32, 1, self.code, self.modulation)
        self._sender = ctypes.c_void_p(
            self._library.ofdmflexframegen_create(SIZE, PREFIX, 0, kinds, ctypes.byref(properties))
        )
        self._heard = _CALLBACK(self._hear)
        self._receiver = ctypes.c_void_p(
            self._library.ofdmflexframesync_create(SIZE, PREFIX, 0, kinds, self._heard, None)
        )
        self._library.ofdmflexframesync_decode_payload_soft(self._receiver, 1)

    def _hear(self, header, header_valid, payload, count, payload_valid, stats, data):
        if header_valid and payload_valid:
            self.payloads.append(bytes(payload[:count]))
        return 0

    def packet(self, payload):
        """The samples of a packet, with mean power 1."""
        header, body = (ctypes.c_ubyte * 8)(), (ctypes.c_ubyte * len(payload)).from_buffer_copy(payload)
        self._library.ofdmflexframegen_assemble(self._sender, header, body, len(payload))
        parts, is_last = [], 0
        while not is_last:
            part = np.zeros(SIZE + PREFIX, dtype=np.complex64)
            is_last = self._library.ofdmflexframegen_write(
                self._sender, part.ctypes.data_as(ctypes.c_void_p), part.size
            )
            parts.append(part)
        samples = np.concatenate(parts)
        return samples / np.sqrt(np.mean(np.abs(samples) ** 2))

    def push(self, samples):
        """The payloads without errors in these samples."""
        self.payloads.clear()
        self._library.ofdmflexframesync_reset(self._receiver)
        samples = np.ascontiguousarray(samples, dtype=np.complex64)
        self._library.ofdmflexframesync_execute(
            self._receiver, samples.ctypes.data_as(ctypes.c_void_p), samples.size
        )
        return list(self.payloads)
