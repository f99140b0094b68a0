"""Encoding and decoding of messages as frames."""

from splitfl.wire.frame import MAX_FRAME_BYTES, Envelope, Frame, Refusal, codec_name, decode, encode

__all__ = ["MAX_FRAME_BYTES", "Envelope", "Frame", "Refusal", "codec_name", "decode", "encode"]
