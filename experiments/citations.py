"""Whom to cite for what a preset uses."""

from typing import Final

from splitfl.adapters.registry import ADAPTERS, kind_named, sides
from splitfl.config import RunConfig
from splitfl.data.task import TASKS
from splitfl.federation.aggregators import row
from splitfl.methods.registry import method

BIBTEX: Final = {
    "lora": ADAPTERS["lora"].citation,
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
    "ushape": """@article{vepakomma2018split,
  title = {Split Learning for Health: Distributed Deep Learning without Sharing Raw Patient Data},
  author = {Vepakomma, Praneeth and Gupta, Otkrist and Swedish, Tristan and Raskar, Ramesh},
  journal = {arXiv preprint arXiv:1812.00564},
  year = {2018}
}""",
    "csefsl": """@article{mu2023communication,
  title = {Communication and Storage Efficient Federated Split Learning},
  author = {Mu, Yujia and Shen, Cong},
  journal = {arXiv preprint arXiv:2302.05599},
  year = {2023}
}""",
    "fslsage": """@inproceedings{nair2025fslsage,
  title = {{FSL-SAGE}: Accelerating Federated Split Learning via Smashed Activation Gradient Estimation},
  author = {Nair, Srijith and Lin, Michael and Ju, Peizhong and Talebi, Amirreza and
    Bentley, Elizabeth Serena and Liu, Jia},
  booktitle = {International Conference on Machine Learning},
  year = {2025}
}""",
    "fedavg": """@inproceedings{mcmahan2017communication,
  title = {Communication-Efficient Learning of Deep Networks from Decentralized Data},
  author = {McMahan, Brendan and Moore, Eider and Ramage, Daniel and Hampson, Seth and
    Ag{\\"u}era y Arcas, Blaise},
  booktitle = {Artificial Intelligence and Statistics},
  year = {2017}
}""",
    "hosfl": """@article{chen2026hosfl,
  title = {{HO-SFL}: Hybrid-Order Split Federated Learning with Backprop-Free Clients and
    Dimension-Free Aggregation},
  author = {Chen, Qiyuan and Chen, Xianhao and Wu, Xian and Wang, Yi},
  journal = {arXiv preprint arXiv:2603.14773},
  year = {2026}
}""",
    "hosl": """@article{aakriti2026hosl,
  title = {{HOSL}: Hybrid-Order Split Learning for Memory-Constrained Edge Training},
  author = {Aakriti and Li, Zhe and Liang, Dandan and Huang, Chao and Li, Rui and Yang, Haibo},
  journal = {arXiv preprint arXiv:2601.10940},
  year = {2026}
}""",
    "decomfl": """@inproceedings{li2025achieving,
  title = {Achieving Dimension-Free Communication in Federated Learning via Zeroth-Order Optimization},
  author = {Li, Zhe and Ying, Bicheng and Liu, Zidong and Dong, Chaosheng and Yang, Haibo},
  booktitle = {International Conference on Learning Representations},
  year = {2025}
}""",
    "fedkseed": """@inproceedings{qin2024federated,
  title = {Federated Full-Parameter Tuning of Billion-Sized Language Models with Communication Cost
    under 18 Kilobytes},
  author = {Qin, Zhen and Chen, Daoyuan and Qian, Bingchen and Ding, Bolin and Li, Yaliang and
    Deng, Shuiguang},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}""",
    "spry": """@inproceedings{panchal2024thinking,
  title = {Thinking Forward: Memory-Efficient Federated Finetuning of Language Models},
  author = {Panchal, Kunjal and Parikh, Nisarg and Choudhary, Sunav and Zhang, Lijun and Brun, Yuriy and
    Guan, Hui},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024}
}""",
    "mezo": """@inproceedings{malladi2023finetuning,
  title = {Fine-Tuning Language Models with Just Forward Passes},
  author = {Malladi, Sadhika and Gao, Tianyu and Nichani, Eshaan and Damian, Alex and Lee, Jason D. and
    Chen, Danqi and Arora, Sanjeev},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}""",
    "heron": """@article{kou2026lean,
  title = {Lean Clients, Full Accuracy: Hybrid Zeroth- and First-Order Split Federated Learning},
  author = {Kou, Zhoubin and Chen, Zihan and Yang, Jing and Shen, Cong},
  journal = {arXiv preprint arXiv:2601.09076},
  year = {2026}
}""",
    "musplitfed": """@inproceedings{liang2025towards,
  title = {Towards Straggler-Resilient Split Federated Learning: An Unbalanced Update Approach},
  author = {Liang, Dandan and Zhang, Jianing and Chen, Evan and Li, Zhe and Li, Rui and Yang, Haibo},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2025}
}""",
    "hiso": """@inproceedings{li2026converge,
  title = {Converge Faster, Talk Less: {Hessian}-Informed Federated Zeroth-Order Optimization},
  author = {Li, Zhe and Ying, Bicheng and Liu, Zidong and Dong, Chaosheng and Yang, Haibo},
  booktitle = {International Conference on Learning Representations},
  year = {2026}
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
    """The entries of method, adapters, aggregator, schedule, model and task, each once."""
    keys = [*method(config.method.name).citations]
    keys += {"buffered": ["fedbuff"], "anarchic": ["anarchic"]}.get(config.federation.schedule, [])
    keys += [config.model.name] if config.model.name in BIBTEX else []
    entries = [BIBTEX[key] for key in keys]
    entries += [kind_named(side.kind).citation for _, side in sides(config.adapter)]
    entries += [row(config.federation.aggregator).bibtex, TASKS[config.task.name].citation]
    return "\n\n".join(filter(None, dict.fromkeys(entries)))
