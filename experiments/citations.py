"""BibTeX entries for the methods, models and data that a preset uses."""

from typing import Final

from splitfl.adapters.registry import kind_named, sides
from splitfl.config import RunConfig
from splitfl.data.tasks import TASKS
from splitfl.federation.aggregators import row
from splitfl.methods.registry import method
from splitfl.privacy.registry import ATTACKS

BIBTEX: Final = {
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
    """BibTeX entries of method, schedule, model, adapters, aggregator, task and probes, each once."""
    keys = {"buffered": ["fedbuff"], "anarchic": ["anarchic"]}.get(config.federation.schedule, [])
    keys += [config.model.name] if config.model.name in BIBTEX else []
    entries = [*method(config.method.name).bibtex, *(BIBTEX[key] for key in keys)]
    entries += [kind_named(side.kind).citation for _, side in sides(config.adapter)]
    entries += [row(config.federation.aggregator).bibtex, TASKS[config.task.name].citation]
    entries += [entry for name in config.privacy.probes for entry in ATTACKS[name].bibtex]
    return "\n\n".join(filter(None, dict.fromkeys(entries)))
