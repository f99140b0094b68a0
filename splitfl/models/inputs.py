"""What the first piece of a model takes; positions that begin anew keep texts in one row apart."""

# B batch, T tokens

from collections.abc import Collection

from torch import Tensor

from splitfl.core.errors import CutError
from splitfl.models.families import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    Family,
)

INPUTS = {
    CAUSAL_LM: ("input_ids", "attention_mask", "token_type_ids", "position_ids"),
    SEQ2SEQ_LM: ("input_ids", "attention_mask"),
    SEQUENCE_CLASSIFICATION: ("input_ids", "attention_mask", "token_type_ids"),
    TOKEN_CLASSIFICATION: ("input_ids", "attention_mask", "token_type_ids"),
    IMAGE_CLASSIFICATION: ("pixel_values",),
}


def check_inputs(inputs: Collection[str], kind: str, family: Family) -> None:
    """CutError for inputs that are not this kind of model's, or of which later pieces would not know."""
    allowed, got = INPUTS[kind], ", ".join(sorted(inputs))
    if set(inputs) - set(allowed) or allowed[0] not in inputs:
        raise CutError(f"inputs for {kind} may be {', '.join(allowed)}, got {got}")
    if "position_ids" in inputs and ("attention_mask" in inputs or not family.separates_packed):
        raise CutError(
            "position_ids are for texts that are packed into a row, without an attention_mask, and for "
            f"models that keep such texts apart; got {got}"
        )


def packed_mask(positions_BT: Tensor) -> Tensor:
    """(B, T) bool: the tokens of packed texts, which have two tokens or more, without the padding."""
    mask_BT = positions_BT > 0
    mask_BT[:, :-1] |= positions_BT[:, 1:] == 1
    return mask_BT
