"""BibTeX entries that several methods cite."""

from typing import Final

from splitfl.adapters.registry import ADAPTERS

LORA: Final = ADAPTERS["lora"].citation

SPLITFED: Final = """@inproceedings{thapa2022splitfed,
  title = {{SplitFed}: When Federated Learning Meets Split Learning},
  author = {Thapa, Chandra and Mahawaga Arachchige, Pathum Chamikara and Camtepe, Seyit and Sun, Lichao},
  booktitle = {AAAI Conference on Artificial Intelligence},
  year = {2022}
}"""

MEZO: Final = """@inproceedings{malladi2023finetuning,
  title = {Fine-Tuning Language Models with Just Forward Passes},
  author = {Malladi, Sadhika and Gao, Tianyu and Nichani, Eshaan and Damian, Alex and Lee, Jason D. and
    Chen, Danqi and Arora, Sanjeev},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}"""

DECOMFL: Final = """@inproceedings{li2025achieving,
  title = {Achieving Dimension-Free Communication in Federated Learning via Zeroth-Order Optimization},
  author = {Li, Zhe and Ying, Bicheng and Liu, Zidong and Dong, Chaosheng and Yang, Haibo},
  booktitle = {International Conference on Learning Representations},
  year = {2025}
}"""
