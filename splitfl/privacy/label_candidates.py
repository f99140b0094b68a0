"""Labels by candidate gradients: the class whose gradient through the known tail is nearest to the one sent.

Erdogan et al., WPES 2022 (UnSplit), label inference. Losses are means over a batch, so the gradients of its
samples are separate: each sample takes one backward pass of the tail per class.
"""

# T tokens, D hidden, C classes

import torch
from torch import Tensor

from splitfl.models.cut import Piece
from splitfl.privacy.guess import ClassGuess
from splitfl.privacy.observation import ObservedSample
from splitfl.privacy.spec import AttackSpec, Evidence


def attack(evidence: Evidence) -> ClassGuess:
    """The class of each sample whose gradient is nearest."""
    found = [_class_of(evidence.tail, sample, evidence.num_classes) for sample in evidence.samples]
    return ClassGuess(classes_S=torch.tensor(found, dtype=torch.int64))


def _class_of(tail: Piece, sample: ObservedSample, num_classes: int) -> int:
    assert sample.output_TD is not None
    assert sample.grad_TD is not None
    device = tail.model.device
    output_1TD = sample.output_TD.to(device)[None].requires_grad_()
    last = torch.tensor([output_1TD.shape[1] - 1], dtype=torch.int32)
    logits_C = tail(output_1TD, {"last": last} if tail.family.pools_last else {}).logits[0]
    sent_TD = sample.grad_TD.to(device) * sample.batch_size
    losses_C = -logits_C.float().log_softmax(-1)
    distances = [_distance(losses_C[label], output_1TD, sent_TD) for label in range(num_classes)]
    return min(range(num_classes), key=distances.__getitem__)


def _distance(loss: Tensor, output_1TD: Tensor, sent_TD: Tensor) -> float:
    (grad_1TD,) = torch.autograd.grad(loss, output_1TD, retain_graph=True)
    return float((grad_1TD[0] - sent_TD).norm())


UNSPLIT = """@inproceedings{erdogan2022unsplit,
  title = {{UnSplit}: Data-Oblivious Model Inversion, Model Stealing, and Label Inference Attacks Against
    Split Learning},
  author = {Erdo{\\u{g}}an, Ege and K{\\"u}p{\\c{c}}{\\"u}, Alptekin and {\\c{C}}i{\\c{c}}ek,
    A. Erc{\\"u}ment},
  booktitle = {Workshop on Privacy in the Electronic Society},
  year = {2022}
}"""

SPEC = AttackSpec(
    about="labels: the class whose gradient through the known tail is nearest",
    bibtex=(UNSPLIT,),
    recovers="labels",
    reads="gradient",
    knows="the tail",
    attack=attack,
)
