"""What a run's recorded links hold, a line each, so that whoever starts it sees whether that was meant."""

from pathlib import Path

from channel.links.trace import read_recording
from splitfl.config import RunConfig


def link_lines(config: RunConfig) -> list[str]:
    """The recording of both directions, or of each; errors as in `read_recording`."""
    up, down = config.link.trace, config.link.trace_down
    named = {"link.trace": up, "link.trace_down": down}
    return [f"{key} {path}: {read_recording(Path(path)).summary}" for key, path in named.items() if path]
