"""BibTeX entries that several methods cite."""

from typing import Final

LORA: Final = """@inproceedings{hu2022lora,
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and
    Wang, Shean and Wang, Lu and Chen, Weizhu},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}"""

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
