"""A controller's plan as settings of one round of a client."""

from splitfl.config import CodecConfig
from splitfl.core.messages import Plan


def codec_config(plan: Plan) -> CodecConfig:
    """The codecs of activations and gradients under this plan."""
    return CodecConfig(activation=plan.codec, gradient=plan.codec)
