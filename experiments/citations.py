"""Whom to cite for what a preset uses."""

from typing import Final

from splitfl.config import RunConfig
from splitfl.data.task import TASKS
from splitfl.methods.registry import method

AGGREGATORS: Final = {
    "rolora": ("rolora",),
    "ffa": ("ffalora",),
    "mean": (),
    "stack": ("flora",),
    "fedex": ("fedexlora",),
    "svd": ("flexlora",),
    "seed-scalar": (),
}

BIBTEX: Final = {
    "rolora": """@article{chen2024rolora,
  title = {Robust Federated Finetuning of {LLMs} via Alternating Optimization of {LoRA}},
  author = {Chen, Shuangyi and Guo, Yuanxin and Ju, Yue and Dalal, Hardik and Zhu, Zhongwen and
    Khisti, Ashish},
  journal = {arXiv preprint arXiv:2502.01755},
  year = {2025}
}""",
    "ffalora": """@inproceedings{sun2024improving,
  title = {Improving {LoRA} in Privacy-preserving Federated Learning},
  author = {Sun, Youbang and Li, Zitao and Li, Yaliang and Ding, Bolin},
  booktitle = {International Conference on Learning Representations},
  year = {2024}
}""",
    "fedexlora": """@inproceedings{singhal2025fedex,
  title = {{FedEx-LoRA}: Exact Aggregation for Federated and Efficient Fine-Tuning of Large Language Models},
  author = {Singhal, Raghav and Ponkshe, Kaustubh and Vepakomma, Praneeth},
  booktitle = {Annual Meeting of the Association for Computational Linguistics},
  year = {2025}
}""",
    "flora": """@inproceedings{wang2024flora,
  title = {{FLoRA}: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations},
  author = {Wang, Ziyao and Shen, Zheyu and He, Yexiao and Sun, Guoheng and Wang, Hongyi and Lyu, Lingjuan
    and Li, Ang},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024}
}""",
    "flexlora": """@inproceedings{bai2024federated,
  title = {Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources},
  author = {Bai, Jiamu and Chen, Daoyuan and Qian, Bingchen and Yao, Liuyi and Li, Yaliang},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024}
}""",
    "fedbuff": """@inproceedings{nguyen2022federated,
  title = {Federated Learning with Buffered Asynchronous Aggregation},
  author = {Nguyen, John and Malik, Kshitiz and Zhan, Hongyuan and Yousefpour, Ashkan and Rabbat, Mike and
    Malek, Mani and Huba, Dzmitry},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2022}
}""",
    "anarchic": """@inproceedings{yang2022anarchic,
  title = {Anarchic Federated Learning},
  author = {Yang, Haibo and Zhang, Xin and Khanduri, Prashant and Liu, Jia},
  booktitle = {International Conference on Machine Learning},
  year = {2022}
}""",
    "minilm": """@inproceedings{wang2020minilm,
  title = {{MiniLM}: Deep Self-Attention Distillation for Task-Agnostic Compression
    of Pre-Trained Transformers},
  author = {Wang, Wenhui and Wei, Furu and Dong, Li and Bao, Hangbo and Yang, Nan and Zhou, Ming},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020}
}""",
}


def bibtex(config: RunConfig) -> str:
    """The entries of the method, the aggregator, the schedule, the model and the task, each once."""
    keys = [*AGGREGATORS[config.federation.aggregator]]
    keys += {"buffered": ["fedbuff"], "anarchic": ["anarchic"]}.get(config.federation.schedule, [])
    keys += [config.model.name] if config.model.name in BIBTEX else []
    entries = [*method(config.method.name).bibtex, *(BIBTEX[key] for key in keys)]
    return "\n\n".join(dict.fromkeys([*entries, *filter(None, [TASKS[config.task.name].citation])]))
