"""A constant rate, delay and loss in each direction: the link of `link.up` and `link.down`."""

from typing import Final

from channel.core.link import Link
from channel.links.fixed import Direction, FixedLink
from splitfl.config import LinkConfig, RunConfig
from splitfl.core.quantities import percent_text, rate_text, seconds_text
from splitfl.setup.link_kinds.kind import LinkKind


def _make(config: RunConfig) -> Link:
    link = config.link
    return FixedLink(
        seed=config.train.seed,
        up=link.up.direction(),
        down=link.down.direction(),
        mtu_bytes=link.mtu_bytes,
        max_tries=link.max_tries,
        retry_s=link.retry_s,
    )


def _describe(link: LinkConfig) -> str:
    return f"uplink: {_one(link.up.direction())}; downlink: {_one(link.down.direction())}"


def _one(direction: Direction) -> str:
    if direction == Direction():
        return "ideal, takes no time"
    rate = rate_text(direction.rate_bps) if direction.rate_bps else "unlimited rate"
    lost = f"{percent_text(direction.loss_rate)} of the packets lost"
    if direction.loss is not None:
        lost = f"{percent_text(direction.loss.loss_rate)} of the packets lost, in bursts (Gilbert-Elliott)"
    return f"{rate}, {seconds_text(direction.delay_s)} delay, {lost}"


FIXED: Final = LinkKind(
    about="a constant rate, delay and loss in each direction (link.up, link.down)",
    make=_make,
    describe=_describe,
)
