"""A recorded trace that each client replays independently: the link of `link.trace`."""

from pathlib import Path
from typing import Final

from channel.core.errors import BadParameter
from channel.core.link import Link
from channel.links.trace import TraceLink, read_recording
from splitfl.config import LinkConfig, RunConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.link_kinds.kind import LinkKind


def _make(config: RunConfig) -> Link:
    link = config.link
    try:
        return TraceLink(
            seed=config.train.seed,
            up=read_recording(Path(link.trace)),
            down=read_recording(Path(link.trace_down or link.trace)),
            mtu_bytes=link.mtu_bytes,
            max_tries=link.max_tries,
            retry_s=link.retry_s,
        )
    except (OSError, UnicodeDecodeError, BadParameter) as error:
        raise ConfigError(f"link.trace cannot be replayed: {error}") from None


def _describe(link: LinkConfig) -> str:
    if link.trace_down:
        return f"uplink: recorded trace {link.trace}; downlink: recorded trace {link.trace_down}"
    return f"recorded trace {link.trace} in both directions, for each client independently"


TRACE: Final = LinkKind(
    about="a recorded trace that each client replays independently (link.trace)",
    make=_make,
    describe=_describe,
)
