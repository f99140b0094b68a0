"""Small untrained models, initialised from a run's seed: one folder with a configuration each.

A configuration with `untrained` needs no weights. `stem` of a ResNet is `imagenet` (7x7 at stride 2
with pooling, He et al., CVPR'16, table 1) or `cifar` (3x3 at stride 1 without pooling, for small
images, section 4.2 of the paper).
"""

from pathlib import Path

FOLDER = Path(__file__).parent
ABOUT = {
    "cnn-mnist": "untrained: two convolutions and a classifier, 28,938 parameters, for 28x28 (DeComFL's)",
    "gpt2-bytes": "untrained: GPT-2 of four blocks of width 128 whose tokens are bytes, 0.9 M parameters",
    "mlp-mnist": "untrained: two ReLU layers of 200 and a classifier, for 28x28",
    "resnet18": "untrained: ResNet-18 with the ImageNet stem, for 32x32 in three colours",
    "resnet18-cifar": "untrained: ResNet-18 with the CIFAR stem, for 32x32 in three colours",
}
"""One-line descriptions of the untrained models, by name."""
