"""Which data, who holds which of them, and how the clients' work is put together."""

from dataclasses import dataclass

from splitfl.config.checks import above, at_least, one_of
from splitfl.core.errors import ConfigError

SCHEDULES: dict[str, tuple[str, ...]] = {
    "synchronous": (),
    "deadline": ("deadline_s",),
    "buffered": ("buffer", "staleness_power", "max_staleness"),
    "anarchic": ("mixing", "pause_s", "staleness_power", "max_staleness"),
}
"""When the server takes the clients' work over, and which of the settings each of the ways reads."""

SERVER_OPTIMISERS = ("none", "momentum", "adagrad", "adam", "yogi")

PACKINGS = ("auto", "pack", "chunk", "truncate")
"""What becomes of texts that are not exactly `task.max_length` tokens long."""

TEMPLATES = ("auto", "plain", "alpaca", "chat")
"""How a prompt becomes text."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Which data: a name of `splitfl list tasks`, or a local file or folder in `data`.

    `text_column`, `label_column` and `group_column` name the columns to read (none: text or sentence,
    label or labels, group), `second_text_column` the other of two texts, for task token-classification
    `words_column` and `tags_column`, for task sft `messages_column`, or `prompt_column`, `context_column`
    and `completion_column` (none: see `splitfl.data.forms`); `ignore_columns` those to leave out, and any
    other is refused. Without a header
    (`header = "none"`, or a first row that names no column) columns are called 1, 2, ... `labels` numbers
    the classes in this order (none: as the checkpoint does where it has the same names, else as the data
    set does, else sorted); a run's config.json always has them. For task multi-label `label_separator`
    stands between the classes of one text where they are no list.

    `bad_rows` says what a malformed row does: `refuse` the file, or `skip` and count. `max_length` is in
    tokens; `packing` says what becomes of longer texts. `truncate` drops what is beyond it. For language
    models, whose texts end with the tokenizer's end token, `chunk` makes several samples of a long text,
    and `pack` cuts a client's texts, one after another, into samples of that length; `auto` is `pack` for
    them (but for a task whose samples are one text each) and `truncate` for classification. For task sft
    `pack` puts several whole texts into a sample, each of which attends to itself alone, and `auto` is
    `truncate`; its loss is on the `answers` alone, or with `loss_on` on `all` tokens, and its prompts become
    text by a `template`: `plain`, `alpaca`, `chat` (the tokenizer's), or `auto` (`alpaca` where rows have
    an input, else `plain`; messages always go through the tokenizer's). `limit` keeps that many training
    samples, `eval_limit` that many held-out ones (0: all of them).
    """

    name: str = "stdlib-topics"
    data: str = ""
    text_column: str = ""
    second_text_column: str = ""
    label_column: str = ""
    group_column: str = ""
    words_column: str = ""
    tags_column: str = ""
    messages_column: str = ""
    prompt_column: str = ""
    context_column: str = ""
    completion_column: str = ""
    ignore_columns: tuple[str, ...] = ("id", "idx", "index")
    header: str = "auto"
    labels: tuple[str, ...] = ()
    label_separator: str = ","
    max_length: int = 64
    packing: str = "auto"
    loss_on: str = "answers"
    template: str = "auto"
    bad_rows: str = "refuse"
    limit: int = 0
    eval_limit: int = 0

    def __post_init__(self) -> None:
        one_of("task.header", self.header, ("auto", "none"))
        if len(self.labels) == 1 or len(set(self.labels)) < len(self.labels) or "" in self.labels:
            raise ConfigError(f"task.labels must be two or more different names, got {list(self.labels)}")
        at_least("task.max_length", self.max_length, 2)
        one_of("task.packing", self.packing, PACKINGS)
        one_of("task.loss_on", self.loss_on, ("answers", "all"))
        one_of("task.template", self.template, TEMPLATES)
        one_of("task.bad_rows", self.bad_rows, ("refuse", "skip"))
        at_least("task.limit", self.limit, 0)
        at_least("task.eval_limit", self.eval_limit, 0)


@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """Who holds which data, how long a round is, how the clients' work is put together.

    There are `clients` clients and `rounds` rounds. `local_steps` of 0 means one pass over the client's own
    data each round.
    `partition`: `natural` (by group: package, or whatever the task groups by), `iid`,
    or `dirichlet` with `dirichlet_alpha` (Hsu et al., 2019: smaller is more uneven).

    `client_ranks` names the largest LoRA rank of each client's own adapters; none means that all
    have the same. Tensors are averaged, unless `robust` says `median`, `trimmed-mean` (without
    the `trim` largest and as many smallest, a share of the clients) or `clip` (no client moves
    them farther than `clip_norm`). The average is taken over as it is, or as a gradient by a
    `server_optimiser` at `server_lr`.

    Clients may differ: `client_cuts` says where each one's head ends, `client_flops` is each one's rate of
    work, `client_steps` each one's steps of a round (none: all have the same). By the `schedule` a round is
    `synchronous`; or ends at the `deadline`, `deadline_s` of virtual time after it began, for whoever is not
    done by then; or every client goes on at its own pace, and the server takes their work over as it comes:
    `buffered`, `buffer` uploads at a time (0: as many as there are clients), or `anarchic`, each by itself
    and as much of it as `mixing` says, from clients that rest before each of their rounds, `pause_s` on
    average. Work from a version that is s old counts (1 + s) ^ -`staleness_power` of what it would, and
    nothing where s is above `max_staleness` (0: however old it is).
    """

    clients: int = 3
    rounds: int = 6
    local_steps: int = 10
    partition: str = "natural"
    dirichlet_alpha: float = 0.5
    aggregator: str = "rolora"
    client_ranks: tuple[int, ...] = ()
    robust: str = "none"
    trim: float = 0.2
    clip_norm: float = 1.0
    server_optimiser: str = "none"
    server_lr: float = 0.1
    client_cuts: tuple[int, ...] = ()
    client_flops: tuple[float, ...] = ()
    client_steps: tuple[int, ...] = ()
    schedule: str = "synchronous"
    deadline_s: float = 0.0
    buffer: int = 0
    mixing: float = 0.5
    pause_s: float = 0.0
    staleness_power: float = 0.5
    max_staleness: int = 0

    def __post_init__(self) -> None:
        at_least("federation.clients", self.clients, 1)
        at_least("federation.rounds", self.rounds, 1)
        at_least("federation.local_steps", self.local_steps, 0)
        one_of("federation.partition", self.partition, ("natural", "iid", "dirichlet"))
        above("federation.dirichlet_alpha", self.dirichlet_alpha, 0.0)
        for rank in self.client_ranks:
            at_least("federation.client_ranks", rank, 1)
        one_of("federation.robust", self.robust, ("none", "median", "trimmed-mean", "clip"))
        at_least("federation.trim", self.trim, 0.0)
        if not self.trim < 0.5:
            raise ConfigError(f"federation.trim must be below 0.5, got {self.trim}")
        above("federation.clip_norm", self.clip_norm, 0.0)
        one_of("federation.server_optimiser", self.server_optimiser, SERVER_OPTIMISERS)
        above("federation.server_lr", self.server_lr, 0.0)
        for rate in self.client_flops:
            above("federation.client_flops", rate, 0.0)
        for steps in self.client_steps:
            at_least("federation.client_steps", steps, 1)
        self._check_schedule()

    def _check_schedule(self) -> None:
        one_of("federation.schedule", self.schedule, SCHEDULES)
        at_least("federation.deadline_s", self.deadline_s, 0.0)
        at_least("federation.buffer", self.buffer, 0)
        above("federation.mixing", self.mixing, 0.0)
        at_least("federation.pause_s", self.pause_s, 0.0)
        at_least("federation.staleness_power", self.staleness_power, 0.0)
        at_least("federation.max_staleness", self.max_staleness, 0)
        for name in ("client_cuts", "client_flops", "client_steps"):
            named = len(getattr(self, name))
            if named not in (0, self.clients):
                raise ConfigError(
                    f"federation.{name} must name one for each of the {self.clients} clients, got {named}"
                )
