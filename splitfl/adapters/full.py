"""Full finetuning: all parameters of the side are trained, and its batch norms are in training mode."""

from collections.abc import Mapping

from splitfl.adapters.kind import AdapterKind
from splitfl.config import SideConfig
from splitfl.models.cut import Piece


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    raise AssertionError("a side without adapters has no modules to be adapted")


FULL = AdapterKind(title="all parameters", factors={}, inject=_inject, trains_all=True)
