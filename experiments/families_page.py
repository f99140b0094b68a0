"""docs/families.md, generated from the table of families: `python -m experiments.families_page`."""

from pathlib import Path

from splitfl.models.families import FAMILIES, Family

PAGE = Path(__file__).parent.parent / "docs" / "families.md"

_HEAD = """# Model families

Generated from `splitfl/models/families.py` by `python -m experiments.families_page`.

A model is cut if its `model_type` has a row here. For every transformer and task,
`tests/splitfl/models/test_split_equals_whole.py` compares the split model's loss, logits and every gradient
with the stock unsplit model by `torch.equal`: cuts into two and three pieces, LoRA and full training,
float32 and bfloat16, no padding and padding on either side; for networks of feature maps
`tests/splitfl/models/test_feature_maps.py` does. A model of another type is refused by name, and so are
quantised checkpoints.

| model_type | tasks | blocks | LoRA targets | attention |
|---|---|---|---|---|
"""


def page() -> str:
    """The page's current content."""
    return _HEAD + "".join(_row(name, family) for name, family in FAMILIES.items())


def _row(name: str, family: Family) -> str:
    targets = ", ".join(f"`{target}`" for target in family.targets) or "none"
    cells = (
        f"`{name}`",
        ", ".join(family.kinds),
        f"`{family.blocks}`",
        targets,
        ", ".join(family.attentions),
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
