"""Numbers as they are."""

from typing import Final

from splitfl.wire.codecs.casting import casting

NONE: Final = casting("numbers as they are", None)
