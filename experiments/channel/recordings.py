"""Summaries of a run's recorded link traces, shown when it starts."""

from pathlib import Path

from channel.links.trace import read_recording
from splitfl.config import RunConfig


def link_lines(config: RunConfig) -> list[str]:
    """One line per recorded trace; raises as `read_recording` does."""
    up, down = config.link.trace, config.link.trace_down
    named = {"link.trace": up, "link.trace_down": down}
    return [f"{key} {path}: {read_recording(Path(path)).summary}" for key, path in named.items() if path]
