"""Small models that begin untrained, drawn from a run's seed: a folder with a configuration for each.

A configuration that says `untrained` needs no weights beside it. `stem` of a ResNet is `imagenet`
(7x7 at stride 2 and a pooling, He et al., CVPR'16, table 1) or `cifar` (3x3 at stride 1 without
pooling, as for small pictures, section 4.2 there).
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
"""The untrained models by name, each in a line."""
