"""No encoding."""

from typing import Final

from splitfl.wire.codecs.casting import casting

NONE: Final = casting("unchanged numbers", None)
