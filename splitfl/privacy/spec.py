"""What an attack is: a function of what the server observed and of what it knows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from splitfl.config import NoSettings, PrivacyConfig
from splitfl.config.plugin import check_settings_type
from splitfl.core.errors import ConfigError
from splitfl.data.batch import Batch
from splitfl.models.cut import Piece
from splitfl.models.family import Family
from splitfl.privacy.guess import Guess
from splitfl.privacy.observation import ObservedSample

Reads = Literal["activation", "gradient"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What an attacker holds: the observed samples, its copies of the client's pieces, and public data.

    `load_head` and `load_tail` return the pieces with the trained tensors that the attacker has,
    `load_public` held-out batches, which no client trains on. `known` maps the index of an observed sample to
    its class, for attacks that need an example of each class; such samples are not scored. `seed` is for
    random streams.
    """

    samples: Sequence[ObservedSample]
    load_head: Callable[[], Piece]
    load_tail: Callable[[], Piece]
    load_public: Callable[[], Sequence[Batch]]
    num_classes: int = 0
    known: Mapping[int, int] = field(default_factory=dict)
    seed: int = 0
    settings: PrivacyConfig = field(default_factory=PrivacyConfig)

    @cached_property
    def head(self) -> Piece:
        """The client's first piece, as far as the attacker knows it."""
        return self.load_head()

    @cached_property
    def tail(self) -> Piece:
        """The client's last piece, as far as the attacker knows it."""
        return self.load_tail()

    @cached_property
    def public(self) -> Sequence[Batch]:
        """Public data of the same kind."""
        return self.load_public()


@dataclass(frozen=True, kw_only=True)
class AttackSpec:
    """One attack. A package registers another by an entry point of the group `splitfl.probes`.

    `recovers` are the tokens of texts or the labels of samples; `reads` is the client's message that it
    needs. `knows` says what the attacker is assumed to have. `attack` gets no label and no token of an
    observed sample, except for those in `Evidence.known` if it `needs_examples`. `refuse` returns why a
    family of models is unsupported with a kind of task, "" if it is supported. `settings` is the type of its
    own settings, a frozen dataclass whose fields are its keys of [privacy].
    """

    about: str
    bibtex: tuple[str, ...]
    recovers: Literal["tokens", "labels"]
    reads: Reads
    knows: str
    attack: Callable[[Evidence], Guess]
    settings: type = NoSettings
    needs_examples: bool = False
    refuse: Callable[[Family, str], str] = lambda family, kind: ""

    def __post_init__(self) -> None:
        if self.recovers not in ("tokens", "labels"):
            raise ConfigError(f"AttackSpec.recovers must be 'tokens' or 'labels', got {self.recovers!r}")
        if self.reads not in ("activation", "gradient"):
            raise ConfigError(f"AttackSpec.reads must be 'activation' or 'gradient', got {self.reads!r}")
        check_settings_type("AttackSpec.settings", self.settings, PrivacyConfig)
