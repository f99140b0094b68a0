"""Scores attacks on what the server of a run observed, in a process that has the clients' data."""

# T real tokens of a sample that were received

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from channel.core.rng import stream
from splitfl.adapters.inject import held, install
from splitfl.adapters.residuals import RESIDUALS
from splitfl.core.events import Events
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches, tokenizer
from splitfl.methods.parts.method import ServerMethod
from splitfl.models.checkpoint.source import resolve
from splitfl.models.cut import Piece
from splitfl.privacy.guess import Guess, TokenGuess
from splitfl.privacy.leak import Leak, headline
from splitfl.privacy.observation import Observation, ObservedSample
from splitfl.privacy.observed_server import ObservedServer
from splitfl.privacy.recorder import MessageRecorder
from splitfl.privacy.registry import ATTACKS
from splitfl.privacy.scoring import Truth, measures, most_frequent
from splitfl.privacy.shown_texts import SHOWN_TEXTS, ShownText, write_texts
from splitfl.privacy.spec import AttackSpec, Evidence
from splitfl.setup.experiment import Experiment
from splitfl.setup.shared_clients import SharedClients

ClientBatches = Callable[[int], Batches]
"""The data of a client, by its number."""

PUBLIC_TOKENS: Final = 1 << 13
"""Held-out tokens from which attackers learn, at most a batch more."""


class Probes:
    """The probes of one run: they record what its server receives, and score attacks after observed rounds.

    `server` is the run's server, with a recorder around it if the run has probes and writes files.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path | None,
        server: ServerMethod,
        batches: ClientBatches | None,
    ) -> None:
        """Attacks are scored in a process that has the `batches` of all clients."""
        self.server = server
        self._experiment, self._folder = experiment, folder
        self._leaks: list[Leak] = []
        self._recorder: MessageRecorder | None = None
        self._leakage = Leakage(experiment, batches) if batches is not None else None
        if experiment.config.privacy.probes and folder is not None:
            self._recorder = MessageRecorder(experiment.config, server.trained)
            self.server = ObservedServer(server, self._recorder)

    def ended(self, round_index: int, events: Events) -> None:
        """Stores what was observed in a round that has ended, and writes the scores of attacks on it."""
        observation = self._recorder.ended(round_index) if self._recorder is not None else None
        if observation is None or self._folder is None:
            return
        observation.save(self._folder)
        if self._leakage is not None:
            names = self._experiment.config.privacy.probes
            self._leaks = self._leakage.attacked(self._folder, observation, names)
        for leak in self._leaks:
            events.write("leak", **asdict(leak))

    def summary(self) -> dict[str, Any]:
        """The first figure of each attack on the last observed round, for the run's summary; {} without."""
        if not self._leaks:
            return {}
        figures = headline(self._leaks).items()
        return {"leaks": {name: {"value": one.value, "chance": one.chance} for name, one in figures}}


class Leakage:
    """Scores attacks against the clients' data; loads data and pieces when they are first needed."""

    def __init__(self, experiment: Experiment, batches: ClientBatches | None = None) -> None:
        """`batches` are the data of each client, if they were read already."""
        self._experiment = experiment
        self._batches = batches or SharedClients(experiment).batches
        self._public = cache(lambda: _public(experiment))
        pieces = experiment.pieces(experiment.config.server)
        self._head, self._tail = cache(lambda: _Copy(pieces.head())), cache(lambda: _Copy(pieces.tail()))

    def attacked(
        self, folder: Path, observation: Observation, names: Sequence[str], older: Observation | None = None
    ) -> list[Leak]:
        """The scores of these attacks on a round, with pieces as they were when the round `older` began.

        Writes texts and what was recovered of them into the run's folder if `privacy.show_texts` is set.
        """
        found, shown = list[Leak](), list[ShownText]()
        views: dict[tuple[str, bool], _View] = {}
        older = older or observation
        for name in names:
            spec = ATTACKS[name]
            key = spec.reads, spec.needs_examples
            if key not in views:  # attacks on the same samples share what they compute of them
                views[key] = self._view(spec, observation, older.trained)
            view = views[key]
            if view.samples:
                guess = spec.attack(view.evidence)
                origin = partial(
                    Leak, attack=name, round=observation.round, age=observation.round - older.round
                )
                measured = measures(*self._scored(view, guess))
                found += [origin(knows=spec.knows, **asdict(measure)) for measure in measured]
                shown += self._shown(name, observation.round, view, guess)
        if self._experiment.config.privacy.show_texts and shown:
            write_texts(folder, shown)
        return found

    def _view(self, spec: AttackSpec, observation: Observation, trained: Mapping[str, Tensor]) -> "_View":
        """What an attack gets of these samples, and the clients' own data of each."""
        config, is_read = self._experiment.config, spec.reads == "activation"
        samples = [one for one in observation.samples if is_read or one.grad_TD is not None]
        own = [self._batches(sample.client).samples([sample.number]) for sample in samples]
        known: dict[int, int] = {}
        if spec.needs_examples:
            labels = [int(batch.labels) for batch in own]
            known = {labels.index(label): label for label in sorted(set(labels))}
        evidence = Evidence(
            samples=samples,
            load_head=lambda: self._head().with_trained(trained),
            load_tail=lambda: self._tail().with_trained(trained),
            load_public=self._public,
            num_classes=len(self._experiment.task.label_names),
            known=known,
            seed=config.train.seed,
            settings=config.privacy,
        )
        return _View(samples=samples, own=own, evidence=evidence)

    def _scored(self, view: "_View", guess: Guess) -> tuple[Guess, Truth]:
        """The part of a guess that is scored, with its truth."""
        seed = self._experiment.config.train.seed
        if isinstance(guess, TokenGuess):
            frequent = most_frequent([_real_tokens(batch) for batch in self._public()])
            return guess, Truth(tokens=view.tokens, frequent=frequent, seed=seed)
        scored = [index for index in range(len(view.samples)) if index not in view.evidence.known]
        classes_S = torch.cat([batch.labels for batch in view.own])[scored]
        return guess.of(scored), Truth(classes_S=classes_S, seed=seed)

    def _shown(self, name: str, round_index: int, view: "_View", guess: Guess) -> list[ShownText]:
        if not isinstance(guess, TokenGuess):
            return []
        decode: Callable[[int], Any] = tokenizer(resolve(self._experiment.config.model.name)).decode
        found = list(zip(view.samples, view.tokens, guess.tokens, strict=True))[:SHOWN_TEXTS]
        return [
            ShownText(
                attack=name,
                round=round_index,
                client=sample.client,
                true=tuple(decode(token) for token in true_T.tolist()),
                recovered=tuple(decode(token) if token >= 0 else "" for token in found_T.tolist()),
            )
            for sample, true_T, found_T in found
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """Observed samples, the client's own data of each, and what an attacker holds."""

    samples: Sequence[ObservedSample]
    own: Sequence[Batch]
    evidence: Evidence

    @cached_property
    def tokens(self) -> list[Tensor]:
        """The tokens (T,) at the places of each sample."""
        return [
            batch.inputs["input_ids"][0][sample.places_T]
            for batch, sample in zip(self.own, self.samples, strict=True)
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
