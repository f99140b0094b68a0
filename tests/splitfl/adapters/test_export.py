"""Whatever pair of kinds was trained, plain transformers and peft load it in a process of their own."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import add_adapters
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.models.families import CAUSAL_LM, IMAGE_CLASSIFICATION, SEQUENCE_CLASSIFICATION
from splitfl.models.load import load_piece
from tests.splitfl import tiny
from tests.splitfl.adapters.kinds import ADDED, side
from tests.splitfl.adapters.test_kinds import CUT, LORA, train

SIDES = {kind: side(kind) for kind in ADDED}
LOADING = """
import json, sys, warnings
from pathlib import Path
import torch, transformers
from peft import PeftModel
from safetensors.torch import load_file
warnings.simplefilter("ignore")
folder, name, labels = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
inputs, wrong = load_file(folder / "inputs.safetensors"), []
for out in sorted((folder / "out").iterdir()):
    model = getattr(transformers, name).from_pretrained(folder / "model", **labels)
    model = PeftModel.from_pretrained(model, out)
    for inside in out.glob("*/adapter_config.json"):
        model = PeftModel.from_pretrained(model.get_base_model(), inside.parent)
    with torch.no_grad():
        found = model.eval()(**inputs).logits
    expected = load_file(folder / "logits" / f"{out.name}.safetensors")["logits"]
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
        wrong.append(out.name)
assert "splitfl" not in sys.modules
print(json.dumps(wrong))
"""
CLASSES = {
    CAUSAL_LM: "AutoModelForCausalLM",
    SEQUENCE_CLASSIFICATION: "AutoModelForSequenceClassification",
    IMAGE_CLASSIFICATION: "AutoModelForImageClassification",
}
ALL_PAIRS = list(itertools.product(SIDES, SIDES))
NEIGHBOURS = list(zip(SIDES, [*list(SIDES)[1:], *SIDES], strict=False))
"""Each kind once on either side; all pairs are the slow cases'."""
SLOW = [
    ("bert", SEQUENCE_CLASSIFICATION, True),
    ("roberta", SEQUENCE_CLASSIFICATION, True),
    ("llama", CAUSAL_LM, True),
]
LONG = [
    ("bert", SEQUENCE_CLASSIFICATION, False),
    ("roberta", SEQUENCE_CLASSIFICATION, False),
    ("distilbert", SEQUENCE_CLASSIFICATION, True),
    ("distilbert", SEQUENCE_CLASSIFICATION, False),
    ("llama", SEQUENCE_CLASSIFICATION, True),
    ("vit", IMAGE_CLASSIFICATION, True),
]


def base(folder: Path, model_type: str, kind: str, is_new: bool) -> Path:
    """A checkpoint, without what stands on the base model where that is to be new."""
    model = tiny.whole(model_type, kind)
    (model.base_model if is_new else model).save_pretrained(folder)
    return folder


def export(folder: Path, kind: str, name: str, adapter: AdapterConfig) -> None:
    """Writes a trained pair of kinds to `out`, and the logits that the model gives with it."""
    whole = load_piece(folder / "model", kind, 0, num_labels=tiny.LABELS)
    add_adapters(whole, adapter, CUT, seed=0)
    tensors = train([whole])
    export_adapter(
        folder / "out" / name,
        tensors,
        whole=whole,
        model_name=str(folder / "model"),
        adapter=adapter,
        cut=CUT,
    )
    inputs, _ = tiny.batch(kind)
    save_file(inputs, folder / "inputs.safetensors")
    (folder / "logits").mkdir(exist_ok=True)
    with torch.no_grad():
        logits = whole(inputs).logits.contiguous()
    save_file({"logits": logits}, folder / "logits" / f"{name}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "kind", "is_new", "pairs"),
    [
        ("bert", SEQUENCE_CLASSIFICATION, True, NEIGHBOURS),
        *((*case, ALL_PAIRS) for case in SLOW),
        *(pytest.param(*case, ALL_PAIRS, marks=pytest.mark.long) for case in LONG),
    ],
)
def test_every_pair_of_kinds_is_loaded_by_plain_peft(
    model_type: str, kind: str, is_new: bool, pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    base(tmp_path / "model", model_type, kind, is_new)
    for below, above in pairs:
        export(tmp_path, kind, f"{below}-{above}", AdapterConfig(head=SIDES[below], body=SIDES[above]))
    for bias in ("lora_only", "all") if model_type != "llama" else ():
        one = side("lora", bias=bias)
        export(tmp_path, kind, f"lora-{bias}", AdapterConfig(head=one, body=one))
        export(tmp_path, kind, f"lora-{bias}-ia3", AdapterConfig(head=one, body=SIDES["ia3"]))
    labels = "{}" if kind == CAUSAL_LM else json.dumps({"num_labels": tiny.LABELS})
    words = [sys.executable, "-c", LOADING, str(tmp_path), CLASSES[kind], labels]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == []


AUTO = """
import json, sys
from pathlib import Path
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
folder = Path(sys.argv[1])
inputs = load_file(folder / "inputs.safetensors")
for out in sorted((folder / "out").iterdir()):
    model = AutoPeftModelForSequenceClassification.from_pretrained(out, **json.loads(sys.argv[2]))
    with torch.no_grad():
        found = model.eval()(**inputs).logits
    expected = load_file(folder / "logits" / f"{out.name}.safetensors")["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "llama"])
@pytest.mark.parametrize("is_new", [True, False])
def test_peft_finds_a_classifiers_model_by_itself(model_type: str, is_new: bool, tmp_path: Path) -> None:
    kind = SEQUENCE_CLASSIFICATION
    base(tmp_path / "model", model_type, kind, is_new)
    for name in ("lora", "ia3"):
        export(tmp_path, kind, name, AdapterConfig(head=SIDES[name], body=SIDES[name]))
    labels = json.dumps({"num_labels": tiny.LABELS} if is_new else {})
    words = [sys.executable, "-W", "ignore", "-c", AUTO, str(tmp_path), labels]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("targets", "task"), [(("query",), "SEQ_CLS"), (("query", "dense"), None), (("query", "out_proj"), None)]
)
def test_a_classifier_that_has_an_adapter_is_not_one_that_peft_keeps_whole(
    targets: tuple[str, ...], task: str | None, tmp_path: Path
) -> None:
    base(tmp_path / "model", "roberta", SEQUENCE_CLASSIFICATION, False)
    sides = AdapterConfig(head=LORA, body=side_config(rank=3, alpha=5.0, targets=targets))
    export(tmp_path, SEQUENCE_CLASSIFICATION, "one", sides)
    assert json.loads((tmp_path / "out" / "one" / "adapter_config.json").read_text())["task_type"] == task
