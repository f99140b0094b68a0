"""Texts that are packed into one row attend to themselves alone, in the whole model and across the cut."""

import copy

import pytest
import torch
from torch import Tensor

from splitfl.models.cut import Piece
from splitfl.models.families import CAUSAL_LM, FAMILIES, block_config
from splitfl.models.inputs import packed_mask
from tests.splitfl import tiny

TEXTS = ([5, 6, 7, 8, 9, 10, 11], [20, 21, 22, 23], [30, 31, 32, 33, 34])
FAMILIES_APART = [name for name, family in FAMILIES.items() if family.separates_packed]
CASES = [
    name if name in tiny.SHOWN else pytest.param(name, marks=pytest.mark.slow)
    for name in FAMILIES_APART
    if CAUSAL_LM in FAMILIES[name].kinds
]


def packed() -> dict[str, Tensor]:
    ids = [token for text in TEXTS for token in text] + [tiny.PADDING] * 2
    positions = [at for text in TEXTS for at in range(len(text))] + [0] * 2
    return {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}


def test_the_padding_of_packed_texts_is_excluded() -> None:
    assert packed_mask(packed()["position_ids"])[0].tolist() == [True] * 16 + [False] * 2


@pytest.mark.parametrize("model_type", CASES)
def test_packed_texts_are_computed_as_each_by_itself_whole_and_cut(model_type: str) -> None:
    model = tiny.whole(model_type, CAUSAL_LM).eval()
    model.config.use_cache = block_config(model.config).use_cache = False
    model.set_attn_implementation(tiny.attention_of(model_type))
    head, body = (Piece(copy.deepcopy(model), CAUSAL_LM, *blocks) for blocks in ((0, 2), (2,)))
    inputs = packed()
    with torch.no_grad():
        whole_TV = model(**inputs).logits[0]
        cut_TV = body(head(inputs), head.context_of(inputs)).logits[0]
        alone_TV = torch.cat([model(input_ids=torch.tensor([text])).logits[0] for text in TEXTS])
    assert torch.equal(cut_TV[:16], whole_TV[:16])
    torch.testing.assert_close(whole_TV[:16], alone_TV, rtol=1e-5, atol=1e-5)
