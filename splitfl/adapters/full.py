"""Full finetuning: all parameters of the side are trained, and its batch norms are in training mode.

Modules that are named stay as in the checkpoint: tied embeddings, or what every block of a model reads, which
pieces of the model would otherwise train apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from splitfl.adapters.kind import AdapterKind
from splitfl.config import SideConfig
from splitfl.models.cut import Piece


@dataclass(frozen=True, kw_only=True)
class FullSettings:
    """`frozen_modules` are modules, by the ends of their names, whose parameters are not trained."""

    frozen_modules: tuple[str, ...] = ()


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    raise AssertionError("a side without adapters has no modules to be adapted")


FULL = AdapterKind(title="all parameters", settings=FullSettings, factors={}, inject=_inject, trains_all=True)
