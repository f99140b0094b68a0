"""Scores attacks on what the server of a run observed, in a process that has the clients' data."""

# T real tokens of a sample that were received

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from channel.core.rng import stream
from splitfl.adapters.inject import held, install
from splitfl.adapters.residuals import RESIDUALS
from splitfl.core.events import Events
from splitfl.data.batch import Batch
from splitfl.data.loader import tokenizer
from splitfl.methods.parts.method import ServerMethod
from splitfl.models.checkpoint.source import resolve
from splitfl.models.cut import Piece
from splitfl.privacy.guess import TokenGuess
from splitfl.privacy.leak import Leak
from splitfl.privacy.observation import Observation, ObservedSample
from splitfl.privacy.observed_server import ObservedServer
from splitfl.privacy.recorder import Recorder
from splitfl.privacy.registry import ATTACKS
from splitfl.privacy.scoring import Truth, measures, most_frequent
from splitfl.privacy.shown_texts import SHOWN_TEXTS, ShownText, write_texts
from splitfl.privacy.spec import AttackSpec, Evidence
from splitfl.setup.experiment import Experiment

PUBLIC_TOKENS: Final = 1 << 14
"""Held-out tokens from which attackers learn, at most a batch more."""


class Probes:
    """The probes of one run: they record what its server receives, and score attacks after observed rounds.

    `server` is the run's server, with a recorder around it if the run has probes and writes files.
    """

    def __init__(
        self, experiment: Experiment, folder: Path | None, server: ServerMethod, *, has_data: bool
    ) -> None:
        """Attacks are scored if this process `has_data` of all clients."""
        self.server = server
        self._experiment, self._folder = experiment, folder
        self._recorder: Recorder | None = None
        self._leakage = Leakage(experiment) if has_data else None
        if experiment.config.privacy.probes and folder is not None:
            self._recorder = Recorder(experiment.config, server.trained)
            self.server = ObservedServer(server, self._recorder)

    def ended(self, round_index: int, events: Events) -> None:
        """Stores what was observed in a round that has ended, and writes the scores of attacks on it."""
        observation = self._recorder.ended(round_index) if self._recorder is not None else None
        if observation is None or self._folder is None:
            return
        observation.save(self._folder)
        names = self._experiment.config.privacy.probes
        for leak in self._leakage.attacked(self._folder, observation, names) if self._leakage else ():
            events.write("leak", **asdict(leak))


class Leakage:
    """Scores attacks against the clients' data; loads data and pieces when they are first needed."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        make_rows = cache(experiment.row_maker)
        self._batches = cache(lambda client: experiment.batches(client, make_rows()))
        self._public = cache(lambda: _public(experiment))
        pieces = experiment.pieces(experiment.config.server)
        self._head, self._tail = cache(lambda: _Copy(pieces.head())), cache(lambda: _Copy(pieces.tail()))

    def attacked(
        self, folder: Path, observation: Observation, names: Sequence[str], older: Observation | None = None
    ) -> list[Leak]:
        """The scores of these attacks on a round, with pieces as they were when the round `older` began.

        Writes texts and what was recovered of them into the run's folder if `privacy.show_texts` is set.
        """
        found, shown = [], list[ShownText]()
        for name in names:
            leaks, texts = self._scored(name, observation, older or observation)
            found += leaks
            shown += texts
        if self._experiment.config.privacy.show_texts and shown:
            write_texts(folder, shown)
        return found

    def _scored(
        self, name: str, observation: Observation, older: Observation
    ) -> tuple[list[Leak], list[ShownText]]:
        spec = ATTACKS[name]
        is_read = spec.reads == "activation"
        samples = [one for one in observation.samples if is_read or one.grad_TD is not None]
        if not samples:
            return [], []
        own = self._samples_of(samples)
        evidence = self._evidence(spec, samples, own, older.trained)
        guess = spec.attack(evidence)
        if isinstance(guess, TokenGuess):
            frequent = most_frequent([_real_tokens(batch) for batch in self._public()])
            tokens = [_tokens(batch, sample) for batch, sample in zip(own, samples, strict=True)]
            truth = Truth(tokens=tokens, frequent=frequent, seed=evidence.seed)
            shown = self._shown(name, observation.round, samples, tokens, guess)
        else:
            scored = [index for index in range(len(samples)) if index not in evidence.known]
            classes = torch.cat([batch.labels for batch in own])
            truth = Truth(classes_S=classes[scored], seed=evidence.seed)
            guess, shown = guess.of(scored), []
        leaks = [
            Leak(
                round=observation.round,
                attack=name,
                knows=spec.knows,
                age=observation.round - older.round,
                **asdict(measure),
            )
            for measure in measures(guess, truth)
        ]
        return leaks, shown

    def _samples_of(self, samples: Sequence[ObservedSample]) -> list[Batch]:
        """The clients' own data of each sample."""
        return [self._batches(sample.client).samples([sample.number]) for sample in samples]

    def _evidence(
        self,
        spec: AttackSpec,
        samples: Sequence[ObservedSample],
        own: Sequence[Batch],
        trained: Mapping[str, Tensor],
    ) -> Evidence:
        config = self._experiment.config
        known: dict[int, int] = {}
        if spec.needs_examples:
            labels = [int(batch.labels) for batch in own]
            known = {labels.index(label): label for label in sorted(set(labels))}
        return Evidence(
            samples=samples,
            load_head=lambda: self._head().with_trained(trained),
            load_tail=lambda: self._tail().with_trained(trained),
            load_public=self._public,
            num_classes=len(self._experiment.task.label_names),
            known=known,
            seed=config.train.seed,
            settings=config.privacy,
        )

    def _shown(
        self,
        name: str,
        round_index: int,
        samples: Sequence[ObservedSample],
        tokens: Sequence[Tensor],
        guess: TokenGuess,
    ) -> list[ShownText]:
        decode: Callable[[int], str] = tokenizer(resolve(self._experiment.config.model.name)).decode
        return [
            ShownText(
                attack=name,
                round=round_index,
                client=sample.client,
                true=tuple(decode(token) for token in true_T.tolist()),
                recovered=tuple(decode(token) if token >= 0 else "" for token in found_T.tolist()),
            )
            for sample, true_T, found_T in list(zip(samples, tokens, guess.tokens, strict=True))[:SHOWN_TEXTS]
        ]


class _Copy:
    """An attacker's copy of a piece, which takes the trained tensors of any round."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._initial = {name: value.detach().clone() for name, value in held(piece).items()}
        self._modules = {name for name, _ in piece.model.named_modules()}

    def with_trained(self, trained: Mapping[str, Tensor]) -> Piece:
        """The piece with those of these tensors that belong to it, and its initial ones elsewhere."""
        own = {name: value for name, value in trained.items() if name in self._initial}
        residuals = {
            name: value
            for name, value in trained.items()
            for ending in RESIDUALS
            if name.endswith(ending) and name.removesuffix(ending) in self._modules
        }
        install(self._piece, {**self._initial, **own, **residuals})
        return self._piece


def _public(experiment: Experiment) -> list[Batch]:
    """Held-out batches, in a random order, of at least `PUBLIC_TOKENS` tokens if there are as many."""
    batches = list(experiment.held_out())
    chosen: list[Batch] = []
    tokens = 0
    for index in stream(experiment.config.train.seed, "public").permutation(len(batches)):
        if tokens < PUBLIC_TOKENS:
            chosen.append(batches[index])
            tokens += len(_real_tokens(batches[index]))
    return chosen


def _real_tokens(batch: Batch) -> Tensor:
    ids = batch.inputs["input_ids"]
    return ids[batch.inputs["attention_mask"].bool()] if "attention_mask" in batch.inputs else ids.reshape(-1)


def _tokens(batch: Batch, sample: ObservedSample) -> Tensor:
    """The tokens (T,) at the places of an observed sample."""
    return batch.inputs["input_ids"][0][sample.places_T]
