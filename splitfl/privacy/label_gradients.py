"""One gradient vector per sample, from those of its tokens."""

# S samples, D hidden

from collections.abc import Sequence

import torch
from torch import Tensor

from splitfl.privacy.observation import ObservedSample


def gradients_of(samples: Sequence[ObservedSample]) -> Tensor:
    """(S, D): the gradient of each sample's own loss, summed over its tokens, float32."""
    rows = []
    for sample in samples:
        assert sample.grad_TD is not None, "samples without a gradient are left out"
        rows.append(sample.batch_size * sample.grad_TD.float().sum(0))
    return torch.stack(rows)


def directions_of(samples: Sequence[ObservedSample]) -> Tensor:
    """(S, D): as `gradients_of`, each of length 1."""
    return torch.nn.functional.normalize(gradients_of(samples), dim=-1)


MARVELL = """@inproceedings{li2022label,
  title = {Label Leakage and Protection in Two-party Split Learning},
  author = {Li, Oscar and Sun, Jiankai and Yang, Xin and Gao, Weihao and Zhang, Hongyi and Xie, Junyuan and
    Smith, Virginia and Wang, Chong},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}"""
