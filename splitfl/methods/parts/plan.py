"""The methods between which a controller may switch a client from round to round."""

from typing import Final

from splitfl.config import CodecConfig
from splitfl.core.messages import Plan

RULES: Final = ("sfl-v2", "frozen", "cse-fsl", "hybrid")
"""Those that share one server model, one head and one kind of message up."""

HEARS: Final = frozenset({"sfl-v2", "hybrid"})
"""Those of them whose clients learn from the gradient that comes down."""

AUXILIARY: Final = "cse-fsl"
"""The one of them whose clients learn from an auxiliary, which is trained with the head."""

STILL: Final = "frozen"
"""The one of them that does not train the head."""


def codec_config(plan: Plan) -> CodecConfig:
    """The codecs of activations and gradients by this plan."""
    return CodecConfig(activation=plan.codec, gradient=plan.codec)
