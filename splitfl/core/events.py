"""The event log of a run: JSON lines, in an order independent of the machine."""

import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from splitfl.core.errors import ConfigError
from splitfl.core.json_text import dumps


class Events:
    """Writes `metrics.jsonl`, line-buffered."""

    def __init__(self, path: Path | None) -> None:
        """Appends to `path`; None discards all events."""
        self._file: TextIO | None = None
        if path is not None:
            self._file = path.open("a", encoding="utf-8", buffering=1)  # line by line
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """The current size of the file, in bytes."""
        with self._lock:
            return self._file.tell() if self._file is not None else 0

    def forget_after(self, size_bytes: int) -> None:
        """Truncates the file to this size; raises ConfigError if it is shorter."""
        with self._lock:
            if self._file is not None:
                if self._file.seek(0, os.SEEK_END) < size_bytes:
                    raise ConfigError(f"{self._file.name} is shorter than when the checkpoint was made")
                self._file.truncate(size_bytes)

    def write(self, event: str, **values: object) -> None:
        """Writes one line: the kind of event, then its values; null for a number that is not finite."""
        if self._file is None:
            return
        row = {"event": event, **values}
        try:
            line = json.dumps(row, separators=(",", ":"), allow_nan=False)
        except ValueError:
            line = dumps(row, separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
