"""Citations of the aggregators, in BibTeX."""

from typing import Final

ROLORA: Final = """@article{chen2024rolora,
  title = {Robust Federated Finetuning of {LLMs} via Alternating Optimization of {LoRA}},
  author = {Chen, Shuangyi and Guo, Yuanxin and Ju, Yue and Dalal, Hardik and Zhu, Zhongwen and
    Khisti, Ashish},
  journal = {arXiv preprint arXiv:2502.01755},
  year = {2025}
}"""

FFA_LORA: Final = """@inproceedings{sun2024improving,
  title = {Improving {LoRA} in Privacy-preserving Federated Learning},
  author = {Sun, Youbang and Li, Zitao and Li, Yaliang and Ding, Bolin},
  booktitle = {International Conference on Learning Representations},
  year = {2024}
}"""

FLORA: Final = """@inproceedings{wang2024flora,
  title = {{FLoRA}: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations},
  author = {Wang, Ziyao and Shen, Zheyu and He, Yexiao and Sun, Guoheng and Wang, Hongyi and Lyu, Lingjuan
    and Li, Ang},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024}
}"""

FEDEX_LORA: Final = """@inproceedings{singhal2025fedex,
  title = {{FedEx-LoRA}: Exact Aggregation for Federated and Efficient Fine-Tuning of Large Language Models},
  author = {Singhal, Raghav and Ponkshe, Kaustubh and Vepakomma, Praneeth},
  booktitle = {Annual Meeting of the Association for Computational Linguistics},
  year = {2025}
}"""

FLEX_LORA: Final = """@inproceedings{bai2024federated,
  title = {Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources},
  author = {Bai, Jiamu and Chen, Daoyuan and Qian, Bingchen and Yao, Liuyi and Li, Yaliang},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024}
}"""
