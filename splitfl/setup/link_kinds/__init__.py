"""Kinds of links by name. A kind is one module and one entry here; other packages register theirs in the
entry-point group `splitfl.links`, for use by `link.kind`."""

from typing import Final

from splitfl.config.link import GROUP
from splitfl.core.registry import Registry
from splitfl.setup.link_kinds.fixed import FIXED
from splitfl.setup.link_kinds.kind import LinkKind
from splitfl.setup.link_kinds.scenario import SCENARIO
from splitfl.setup.link_kinds.trace import TRACE

__all__ = ["LINKS", "LinkKind"]

LINKS: Final = Registry(GROUP, LinkKind, {"fixed": FIXED, "trace": TRACE, "scenario": SCENARIO})
