"""The model and data of all benchmarks: GPT-2's architecture with random weights, and random texts."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from channel.core.rng import stream
from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import trainable
from splitfl.config import RunConfig
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict

SEED = 0
BATCHES_EACH = 8
"""Number of batches for each of two clients; every text has exactly `tokens` tokens."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes, and the folder that `prepare` fills.

    A timed block is one round of `steps` steps per client; every contestant is timed `sweeps`
    times, interleaved with the others. `is_quick` leaves out figures without a target.
    """

    folder: Path
    blocks: int = 6
    width: int = 384
    heads: int = 6
    vocabulary: int = 8192
    rank: int = 8
    batch: int = 8
    tokens: int = 128
    cut: int = 2
    lr: float = 1e-3
    steps: int = 3
    sweeps: int = 5
    device: str = "cpu"
    is_quick: bool = False

    @property
    def model(self) -> Path:
        """The model in the hub's layout: config.json, model.safetensors and a tokenizer."""
        return self.folder / "model"

    @property
    def start(self) -> Path:
        """The initial adapter of every contestant."""
        return self.folder / "start"

    def config(
        self,
        *,
        rounds: int,
        clients: int = 1,
        in_flight: int = 1,
        server_batch: int = 1,
        server_threads: int = 1,
        transport: str = "inproc",
    ) -> RunConfig:
        """The product's settings; all adapter tensors are trained in every round, as in the baselines."""
        lora = {"rank": self.rank, "targets": ["c_attn"]}
        return from_dict(
            {
                "model": {"name": str(self.model)},
                "partition": {"cut": self.cut},
                "adapter": {"head": lora, "body": lora},
                "task": {"name": "lm", "data": str(self.folder / "texts"), "max_length": self.tokens},
                "federation": {
                    "clients": clients,
                    "rounds": rounds,
                    "local_steps": self.steps,
                    "partition": "iid",
                    "aggregator": "mean",
                },
                "method": {"name": "sfl-v2", "in_flight": in_flight, "server_batch": server_batch},
                "train": {
                    "batch_size": self.batch,
                    "head_lr": self.lr,
                    "body_lr": self.lr,
                    "seed": SEED,
                },
                "client": {"device": self.device},
                "server": {"device": self.device, "threads": server_threads},
                "transport": {"name": transport},
                "eval": {"every": 0},
            }
        )

    def prepare(self, texts: int | None = None) -> Self:
        """Writes model, `texts` texts (None: enough for two clients) and the initial adapter."""
        self.model.mkdir(parents=True)
        _save_model(self)
        _save_tokenizer(self)
        _save_texts(self, texts or 2 * BATCHES_EACH * self.batch)
        config = self.config(rounds=1)
        whole = Experiment.of(config).whole()
        export_adapter(
            self.start,
            trainable(whole),
            whole=whole,
            model_name=str(self.model),
            adapter=config.adapter,
            cut=self.cut,
        )
        return self

    def once(self) -> "Setting":
        """The quick variant: a single sweep of short blocks."""
        return replace(self, steps=2, sweeps=1, is_quick=True)

    def as_row(self) -> dict[str, Any]:
        """The sizes as plain data, for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def _save_model(setting: Setting) -> None:
    settings = GPT2Config(
        n_layer=setting.blocks,
        n_embd=setting.width,
        n_head=setting.heads,
        vocab_size=setting.vocabulary,
        n_positions=2 * setting.tokens,
        resid_pdrop=0.0,  # the product trains without dropout, so the baselines do too
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        GPT2LMHeadModel(settings).save_pretrained(setting.model)


def _save_tokenizer(setting: Setting) -> None:
    """Word `w7` is token 7; token 0 is padding."""
    vocabulary = {f"w{token}": token for token in range(setting.vocabulary)}
    whole: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "w0", "unk_token": "w0"}
    (setting.model / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    (setting.model / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _save_texts(setting: Setting, texts: int) -> None:
    folder = setting.folder / "texts"
    folder.mkdir()
    rng = stream(SEED, "texts")
    for name, samples in (("train", texts), ("dev", 1)):
        ids = rng.integers(1, setting.vocabulary, (samples, setting.tokens))
        (folder / f"{name}.txt").write_text("".join(map(_line, ids)), encoding="utf-8")


def _line(ids_T: np.ndarray) -> str:
    return " ".join(f"w{token}" for token in ids_T) + "\n"
