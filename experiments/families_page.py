"""docs/families.md, generated from the table of families: `python -m experiments.families_page`."""

from collections.abc import Iterator
from pathlib import Path

from splitfl.models.families import FAMILIES, Family
from splitfl.models.family_rows.refused import REFUSED

PAGE = Path(__file__).parent.parent / "docs" / "families.md"

_HEAD = """# Model families

Generated from `splitfl/models/families.py` by `python -m experiments.families_page`.

A model is cut if its `model_type` has a row here. For every transformer and task,
`tests/splitfl/models/test_split_equals_whole.py` compares the split model's loss, logits and every gradient
with the stock unsplit model by `torch.equal`: cuts into two and three pieces, LoRA and full training,
float32 and bfloat16, no padding and padding on either side. Networks of feature maps are compared in
float32, their only dtype, those with batch norms by `tests/splitfl/models/test_feature_maps.py`. A model of
another type is refused by name, with its reason if it is [known](#refused-types), and so are quantised
checkpoints.

**Shared tensors.** Of these families every block uses some tensors, of which each piece has a copy that is
not trained: {shared}. Full finetuning is refused unless `frozen_modules` names them, as it names
[tied embeddings](how-to/model.md#full-finetuning); it then equals the unsplit model's with these tensors
frozen.

**Models of images and texts.** Of {wrappers} the text side is split: the language model inside, through the
wrapper's own code and with its names, for texts alone. The towers of other modalities are in no piece. Plain
peft loads an exported adapter on the wrapper (`AutoPeftModel`), and full finetuning exports the
whole wrapper with the checkpoint's own towers.

**Encoder-decoders.** {decoders} are cut in the encoder: the client has the embeddings and the first blocks of
the encoder, the server the rest of it, the decoder and the language model head. Hidden states of the encoder,
their mask and the labels cross; the decoder's input is made of the labels by the model itself. T5's position
bias is owned by its first block and added in all: each piece has a frozen copy. The decoder has the
adapters of the body, by default on its attention to itself and to the encoder. Token embeddings, which
encoder and decoder share, cannot be trained, unless a checkpoint of BART's kind is saved untied: full
finetuning of others needs them in `frozen_modules`. Refused are methods with an auxiliary network at the
client, which would hold the whole decoder. With `ushape` the client has the decoder. See
[](sft.md#encoder-decoders).

**Experts.** Checkpoints with experts stored one by one or stacked are read alike, only those of the piece's
blocks. FLOPs and virtual time count the experts that a token is sent to. `output_router_logits`, which adds
a loss for the balance of all blocks' experts, must be false. In a run padding does not cross the cut: the
experts behind it then compute other padding, which can change the last bits of gradients of a batch with
padding (seen: 1e-7 in float32, 5e-4 for `gpt_oss` trained in full in bfloat16).

| model_type | tasks | blocks | LoRA targets | attention |
|---|---|---|---|---|
"""
_REFUSED_HEAD = """
## Refused types

| model_type | reason |
|---|---|
"""


def page() -> str:
    """The page's current content."""
    shared = ", ".join(f"`{name}`" for name, family in FAMILIES.items() if family.shared)
    wrappers = [name for name, family in FAMILIES.items() if family.texts]
    rows = "".join(_row(name, family) for name, family in FAMILIES.items())
    return (
        _HEAD.format(
            shared=shared,
            decoders=", ".join(f"`{name}`" for name, family in FAMILIES.items() if family.decoder),
            wrappers=", ".join(f"`{name}`" for name in wrappers),
        )
        + rows
        + _REFUSED_HEAD
        + "".join(_reasons())
    )


def _reasons() -> Iterator[str]:
    for reason in dict.fromkeys(REFUSED.values()):
        names = ", ".join(f"`{name}`" for name, its in REFUSED.items() if its == reason)
        yield f"| {names} | {reason} |\n"


def _of_texts(family: Family) -> str:
    """The types of text models that a model of several modalities may contain."""
    return f" of {', '.join(family.texts)}" if family.texts else ""


def _row(name: str, family: Family) -> str:
    targets = ", ".join(f"`{target}`" for target in family.targets) or "none"
    cells = (
        f"`{name}`",
        ", ".join(family.kinds),
        f"`{family.blocks}`{_of_texts(family)}",
        targets,
        ", ".join(family.attentions),
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
