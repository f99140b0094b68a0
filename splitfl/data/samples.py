"""All kinds of samples that a task may have."""

from splitfl.data.examples import Examples
from splitfl.data.pictures import Pictures
from splitfl.data.token_pieces import TokenPieces

Samples = Examples | Pictures | TokenPieces
