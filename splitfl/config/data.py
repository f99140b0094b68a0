"""Settings of the data, its partition among clients, and the aggregation of their updates."""

from dataclasses import dataclass

from splitfl.config.checks import above, at_least, one_of
from splitfl.core.errors import ConfigError

SCHEDULES: dict[str, tuple[str, ...]] = {
    "synchronous": (),
    "deadline": ("deadline_s",),
    "buffered": ("buffer", "staleness_power", "max_staleness"),
    "anarchic": ("mixing", "pause_s", "staleness_power", "max_staleness"),
}
"""The schedules of aggregation, with the settings that each of them reads."""

SERVER_OPTIMISERS = ("none", "momentum", "nesterov", "adagrad", "adam", "yogi")

PACKINGS = ("auto", "pack", "chunk", "truncate")
"""The treatment of texts that are not exactly `task.max_length` tokens long."""

TEMPLATES = ("auto", "plain", "alpaca", "chat")
"""How a prompt becomes text."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The task: a name of `splitfl list tasks`, or a local file or folder in `data`.

    `text_column`, `label_column` and `group_column` name the columns to read (empty: text or sentence,
    label or labels, group), `second_text_column` the second text of a pair. Task token-classification has
    `words_column` and `tags_column`; task sft has `messages_column`, or `prompt_column`, `context_column` and
    `completion_column` (empty: see `splitfl.data.reading.forms`). `ignore_columns` names columns to ignore;
    any other column is refused. Without a header (`header = "none"`, or a first row that names no column)
    columns are called 1, 2, ... `labels` orders the classes (empty: the checkpoint's order if it has the same
    names, else the data set's, else sorted); a run's config.json always has them. `label_separator` separates
    the classes of one text of task multi-label, unless they are a list.

    `bad_rows` is the treatment of malformed rows: `refuse` the file, or `skip` and count them. `max_length`
    is in tokens; `packing` is the treatment of longer texts. `truncate` drops the rest. For language models,
    whose texts end with the tokenizer's end token, `chunk` splits a long text into several samples, and
    `pack` concatenates a client's texts and cuts them into samples of that length; `auto` is `pack` for them
    (except for tasks with one text per sample) and `truncate` for classification. For task sft `pack` puts
    several whole texts into a sample, each of which attends to itself only, and `auto` is `truncate`.
    Task seq2seq, of encoder-decoders, has the columns of a prompt, and prompts and completions of at most
    `max_length` tokens each. `loss_on` of task sft is `answers`, or `all` tokens; `template` turns prompts
    into text: `plain`, `alpaca`, `chat` (the tokenizer's), or `auto` (`alpaca` if rows have an input, else
    `plain`; messages always use the tokenizer's). `limit` and `eval_limit` are the maximum numbers of
    training and held-out samples (0: all), with tasks corpus and stdlib-source of pieces of up to 16 KiB.
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
    """The partition of the data, the length of a round, and the aggregation of updates.

    There are `clients` clients and `rounds` rounds. `local_steps` of 0 means one pass over the client's
    data each round. `partition`: `natural` (by the task's groups, for example packages), `iid`, or
    `dirichlet` with concentration `dirichlet_alpha` (Hsu et al., 2019: smaller is less even).

    `client_ranks` has the LoRA rank of each client's adapters (empty: all equal). Tensors are averaged,
    or aggregated by `robust`: `median`, `trimmed-mean` (without the largest and smallest share `trim` of
    the clients' values) or `clip` (each client's update clipped to the norm `clip_norm`). The average
    replaces the parameters, or is the pseudo-gradient of a `server_optimiser` with rate `server_lr`.

    Clients may differ in `client_cuts` (the number of blocks of each head), `client_flops` (FLOP/s) and
    `client_steps` (steps per round); empty: all equal. The `schedule` of aggregation is `synchronous`;
    `deadline`: a round ends `deadline_s` of virtual time after its start, without unfinished clients;
    `buffered`: asynchronous, after every `buffer` uploads (0: the number of clients); or `anarchic`:
    asynchronous, after every upload with the weight `mixing`, from clients that pause before each of their
    rounds for `pause_s` on average. An update of staleness s has the weight (1 + s) ^ -`staleness_power`,
    and 0 if s is above `max_staleness` (0: no limit).
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
                    f"federation.{name} must have a value for each of the {self.clients} clients, got {named}"
                )
