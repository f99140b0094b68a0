"""What happened, one JSON object a line, in an order that does not depend on the machine."""

import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from splitfl.core.errors import ConfigError
from splitfl.core.json_text import dumps


class Events:
    """Writes `metrics.jsonl`; every line is whole in the file before the next is begun."""

    def __init__(self, path: Path | None) -> None:
        """None keeps nothing; a file that is there is gone on with."""
        self._file: TextIO | None = None
        if path is not None:
            self._file = path.open("a", encoding="utf-8", buffering=1)  # line by line
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """How long the file is by now."""
        with self._lock:
            return self._file.tell() if self._file is not None else 0

    def forget_after(self, size_bytes: int) -> None:
        """Cuts off what was written after the file was so long; ConfigError where it never was."""
        with self._lock:
            if self._file is not None:
                if self._file.seek(0, os.SEEK_END) < size_bytes:
                    raise ConfigError(f"{self._file.name} is shorter than when the checkpoint was made")
                self._file.truncate(size_bytes)

    def write(self, event: str, **values: object) -> None:
        """One line: the kind of event, then its values; null for a number that is not finite."""
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
