"""Whom to cite for what a preset uses."""

from typing import Final

from splitfl.config import RunConfig
from splitfl.data.task import TASKS
from splitfl.methods.registry import method

AGGREGATORS: Final = {"rolora": ("rolora",), "ffa": ("ffalora",), "mean": ()}

BIBTEX: Final = {
    "lora": """@inproceedings{hu2022lora,
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and
    Wang, Shean and Wang, Lu and Chen, Weizhu},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}""",
    "splitfed": """@inproceedings{thapa2022splitfed,
  title = {{SplitFed}: When Federated Learning Meets Split Learning},
  author = {Thapa, Chandra and Mahawaga Arachchige, Pathum Chamikara and Camtepe, Seyit and Sun, Lichao},
  booktitle = {AAAI Conference on Artificial Intelligence},
  year = {2022}
}""",
    "splitlora": """@article{lin2024splitlora,
  title = {{SplitLoRA}: A Split Parameter-Efficient Fine-Tuning Framework for Large Language Models},
  author = {Lin, Zheng and Hu, Xuanjie and Zhang, Yuxin and Chen, Zhe and Fang, Zihan and Chen, Xianhao and
    Li, Ang and Vepakomma, Praneeth and Gao, Yue},
  journal = {arXiv preprint arXiv:2407.00952},
  year = {2024}
}""",
    "splitfrozen": """@article{splitfrozen2025,
  title = {{SplitFrozen}: Split Learning with Device-side Model Frozen for Fine-Tuning {LLM} on
    Heterogeneous Resource-Constrained Devices},
  journal = {arXiv preprint arXiv:2503.18986},
  year = {2025}
}""",
    "fedavg": """@inproceedings{mcmahan2017communication,
  title = {Communication-Efficient Learning of Deep Networks from Decentralized Data},
  author = {McMahan, Brendan and Moore, Eider and Ramage, Daniel and Hampson, Seth and
    Ag{\\"u}era y Arcas, Blaise},
  booktitle = {Artificial Intelligence and Statistics},
  year = {2017}
}""",
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
    "minilm": """@inproceedings{wang2020minilm,
  title = {{MiniLM}: Deep Self-Attention Distillation for Task-Agnostic Compression
    of Pre-Trained Transformers},
  author = {Wang, Wenhui and Wei, Furu and Dong, Li and Bao, Hangbo and Yang, Nan and Zhou, Ming},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020}
}""",
}


def bibtex(config: RunConfig) -> str:
    """The entries of the method, the aggregator, the model and the task, each once."""
    keys = [*method(config.method.name).citations, *AGGREGATORS[config.federation.aggregator]]
    keys += [config.model.name] if config.model.name in BIBTEX else []
    entries = [BIBTEX[key] for key in dict.fromkeys(keys)]
    return "\n\n".join([*entries, *filter(None, [TASKS[config.task.name].citation])])
