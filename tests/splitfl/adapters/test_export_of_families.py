"""Each kind of adapter on each family: the exported adapter gives plain peft the logits of the run."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from splitfl.adapters.export import export_adapter, folders_inside
from splitfl.adapters.inject import add_adapters
from splitfl.config import AdapterConfig
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.load import load_piece
from tests.splitfl import tiny
from tests.splitfl.adapters.kinds import ADDED, side
from tests.splitfl.adapters.test_kinds import CUT, train


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize(("model_type", "kind"), tiny.CASES)
def test_an_exported_adapter_gives_peft_the_logits_of_the_run(
    model_type: str, kind: str, name: str, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "model", model_type, kind)
    adapter = AdapterConfig(head=side(name), body=side(name))

    def whole() -> Piece:
        classes = tiny.LABELS if "classification" in kind else None
        attention = tiny.attention_of(folder)
        piece = load_piece(folder, kind, 0, num_labels=classes, attention=attention)
        add_adapters(piece, adapter, CUT, seed=0)
        return piece

    try:
        trained = whole()
    except ConfigError as refused:
        pytest.skip(str(refused))
    tensors, out = train([trained]), tmp_path / "out"
    export_adapter(out, tensors, whole=whole(), model_name=str(folder), adapter=adapter, cut=CUT)
    model = PeftModel.from_pretrained(tiny.stock(folder, kind), out)
    for inside in folders_inside(out):
        model = PeftModel.from_pretrained(model.get_base_model(), inside)
    inputs, labels = tiny.batch(kind)
    with torch.no_grad():
        found, expected = model.eval()(**inputs, labels=labels).logits, trained(inputs, None, labels).logits
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
