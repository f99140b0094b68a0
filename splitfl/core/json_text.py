"""Standard JSON: numbers that are not finite become null."""

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """The value as JSON (RFC 8259); raises TypeError for an unsupported type."""
    try:
        return json.dumps(value, indent=indent, separators=separators, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, separators=separators, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
