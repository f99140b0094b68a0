"""A client's memory grows with its head, not with the model."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import BertConfig, BertForSequenceClassification

from tests.splitfl import quantised

PROBE = """
import sys
from splitfl.models.load import load_piece
from splitfl.models.unsplit import build
from splitfl.models.load import read_config
from pathlib import Path

def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

from splitfl.models.quantised import Quantisation, allocated, quantise
import torch

folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
quantisation = Quantisation(format="int8") if sys.argv[4] == "int8" else None
if quantisation:
    quantise(allocated("imports torchao", torch.ones(2, 2), None, quantisation), torch.ones(2, 2))
kind = "sequence-classification"
build(read_config(folder, kind), kind)  # imports the model's code
before = peak_bytes()
piece = load_piece(folder, kind, first, last, quantisation=quantisation)
print(peak_bytes() - before, sum(value.nbytes for value in piece.parameters()))
"""


def loaded(folder: Path, first: int, last: int, quantization: str = "none") -> tuple[int, int]:
    """How far the peak of a fresh process rose while it loaded these blocks, and their size in bytes."""
    command = [sys.executable, "-c", PROBE, str(folder), str(first), str(last), quantization]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    rise, size = done.stdout.split()
    return int(rise), int(size)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("shard", ["100GB", "40MB"])
def test_the_peak_of_loading_grows_with_the_piece(shard: str, tmp_path: Path) -> None:
    config = BertConfig(
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=24,
        num_attention_heads=8,
        vocab_size=200,
        max_position_embeddings=64,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path, max_shard_size=shard)
    head_rise, head_size = loaded(tmp_path, 0, 2)
    body_rise, body_size = loaded(tmp_path, 2, 24)
    assert body_size > 10 * head_size
    assert head_rise < 1.6 * head_size
    assert body_rise < 1.1 * body_size
    assert head_rise < 0.2 * body_rise


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("is_stored", [True, False], ids=["stored in int8", "quantised to int8"])
def test_a_quantised_piece_is_loaded_without_a_float_copy(is_stored: bool, tmp_path: Path) -> None:
    config = BertConfig(
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        vocab_size=200,
        max_position_embeddings=64,
    )
    model = BertForSequenceClassification(config)
    model.save_pretrained(tmp_path)
    float_bytes = sum(value.nbytes for value in model.parameters())
    if is_stored:
        quantised.quantise(tmp_path, "int8")
        rise, size = loaded(tmp_path, 0, 12)
    else:
        pytest.importorskip("torchao", reason="torchao is not installed: pip install 'splitfl[quantization]'")
        rise, size = loaded(tmp_path, 0, 12, "int8")
    assert size < 0.27 * float_bytes
    assert rise < 0.6 * float_bytes
