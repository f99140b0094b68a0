"""The table of a run's codecs, as its nodes measured them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from splitfl.run_folder.rows import build_row


@dataclass(frozen=True, kw_only=True)
class CodecRow:
    """One kind of message and codec: bits and entropy (None without integer codes) and seconds of a value."""

    kind: str
    codec: str
    values: int
    bits: float
    entropy_bits: float | None
    relative_error: float | None
    encode_s: float
    decode_s: float

    def cells(self) -> list[str]:
        """The texts of the row; times are for a million values."""
        entropy = "n/a" if self.entropy_bits is None else f"{self.entropy_bits:.2f}"
        error = "not finite" if self.relative_error is None else f"{self.relative_error:.3f}"
        times = [f"{1e9 * seconds:.1f} ms" for seconds in (self.encode_s, self.decode_s)]
        kind = self.kind.replace("_", " ")
        return [kind, self.codec, f"{self.values:,}", f"{self.bits:.2f}", entropy, error, *times]


def codec_cells(codecs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows of a summary's `codecs` as texts. Raises ConfigError for malformed rows."""
    return [build_row(CodecRow, row).cells() for row in codecs]
