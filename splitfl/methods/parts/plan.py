"""What the plan of a controller means for one round of a client."""

from splitfl.config import CodecConfig
from splitfl.core.messages import Plan


def codec_config(plan: Plan) -> CodecConfig:
    """The codecs of activations and gradients by this plan."""
    return CodecConfig(activation=plan.codec, gradient=plan.codec)
