"""The rows of models that classify images: transformers of patches, and networks of feature maps.

Networks of feature maps and Swin are cut between stages. Of Swin cross (B, H W, C) tokens after the stage's
patch merging; the windows of the next stage are computed from the image size and the number of the stage.
"""

from dataclasses import replace
from typing import Final

from splitfl.models.family import IMAGE_CLASSIFICATION, Family

_VIT = Family(
    blocks="layers",
    before=("embeddings",),
    after=("layernorm", "pooler"),
    reads=("q_proj", "k_proj", "v_proj"),
    targets=("q_proj", "v_proj"),
    kinds=(IMAGE_CLASSIFICATION,),
    pools_last=False,
)
_CLIP = replace(
    _VIT, blocks="encoder.layers", after=("post_layernorm",), base="vision_model", nested="vision_config"
)
_CONVNEXT = replace(
    _VIT,
    blocks="encoder.stages",
    after=("layernorm",),
    reads=(),
    targets=("pwconv1", "pwconv2"),
    hands_pictures=True,
    channels_last=True,
)

IMAGE_FAMILIES: Final[dict[str, Family]] = {
    "vit": _VIT,
    "dinov2": replace(_VIT, blocks="encoder.layer", after=("layernorm",)),
    "siglip": replace(_CLIP, unused=("head",), has_class_token=False),
    "clip": replace(_CLIP, before=("embeddings", "pre_layrnorm")),
    "resnet": Family(
        blocks="encoder.stages",
        before=("embedder",),
        after=("pooler",),
        reads=(),
        targets=(),
        kinds=(IMAGE_CLASSIFICATION,),
        pools_last=False,
        hands_pictures=True,
        has_batch_norms=True,
    ),
    "convnext": _CONVNEXT,
    "convnextv2": _CONVNEXT,
    "swin": replace(
        _VIT,
        blocks="encoder.layers",
        hands_pictures=True,
        hands_tokens=True,
        num_returned=3,
        attributes=("downsample",),
    ),
    "small_net": Family(  # of splitfl.models
        blocks="blocks",
        before=(),
        after=(),
        reads=(),
        targets=("linear",),
        kinds=(IMAGE_CLASSIFICATION,),
        pools_last=False,
        hands_pictures=True,
    ),
}
"""By `model_type`."""
