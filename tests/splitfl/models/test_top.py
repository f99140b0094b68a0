"""What stands on the last block can be a piece by itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitfl.core.errors import CutError
from splitfl.models.families import FAMILIES
from splitfl.models.feature_maps import as_tokens
from splitfl.models.load import load_piece
from tests.splitfl import tiny


@pytest.mark.parametrize(("model_type", "kind"), tiny.SOME)
def test_the_top_alone_gives_the_whole_models_logits(model_type: str, kind: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, model_type, kind)
    attention = tiny.attention_of(model_type)
    if FAMILIES[model_type].hands_tokens:
        with pytest.raises(CutError, match="last stage alone does not merge patches"):
            load_piece(folder, kind, tiny.BLOCKS, shortened_to=tiny.BLOCKS, attention=attention)
        return
    whole, top = (load_piece(folder, kind, first, attention=attention) for first in (0, tiny.BLOCKS))
    inputs, labels = tiny.batch(kind)
    seen: list[Tensor] = []

    def look(module: nn.Module, given: Any, made: Any) -> None:
        seen.append(made[0] if isinstance(made, tuple) else made)

    blocks = whole.base.get_submodule(whole.family.blocks)
    handle = blocks.get_submodule(str(tiny.BLOCKS - 1)).register_forward_hook(look)
    with torch.no_grad():
        expected = whole(inputs, {}, labels)
        hidden = as_tokens(seen[0]) if whole.family.hands_pictures else seen[0]
        got = top(hidden, whole.context_of(inputs), labels)
    handle.remove()
    assert torch.equal(got.logits, expected.logits)
    assert torch.equal(got.loss, expected.loss)
    assert all(".3." not in name for name, _ in top.model.named_parameters())
