"""What a run was, in sentences: what was done, what was emulated, what a reader can do with the result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from experiments.live.figures import kept_up
from splitfl.adapters.export import folders_inside
from splitfl.adapters.registry import kind_named
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.core.metrics import JUDGES, METRICS
from splitfl.core.quantities import flops_text, metric_text, seconds_text
from splitfl.data.task import TASKS
from splitfl.models.families import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
)
from splitfl.run_folder.read import RunRecord, read_table
from splitfl.setup.experiment_file import from_dict
from splitfl.setup.links import describe_link
from splitfl.transport.registry import TRANSPORTS

CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "IMAGE_CLS": "AutoModelForImageClassification",
}
"""peft's task type, as adapter_config.json holds it -> the transformers class of the unsplit model."""

PEFT_TASKS = {
    CAUSAL_LM: "CAUSAL_LM",
    SEQUENCE_CLASSIFICATION: "SEQ_CLS",
    TOKEN_CLASSIFICATION: "TOKEN_CLS",
    IMAGE_CLASSIFICATION: "IMAGE_CLS",
}

CLASSIFIERS = ("classifier.weight", "score.weight", "classifier.out_proj.weight")


def headline(run: RunRecord) -> str:
    """What was run, in one sentence."""
    summary = run.summary
    clients = "1 client" if summary.clients == 1 else f"{summary.clients} clients"
    rounds = "1 round" if summary.rounds == 1 else f"{summary.rounds} rounds"
    transport = run.setting("transport.name")
    spec = dict(TRANSPORTS).get(transport)
    is_cut = any(row.kind == "Activation" for row in run.events.transfers)
    cut = f", cut after block {run.setting('partition.cut')}," if is_cut else ""
    return (
        f"{clients} and a server finetuned {summary.model}{cut} on {summary.task} "
        f"({run.setting('federation.partition')} partition) with {summary.method} "
        f"for {rounds}, {spec.describe if spec else f'over {transport}'}."
    )


def outcome(run: RunRecord) -> str:
    """How it ended, in one sentence."""
    final, status = run.summary.final, run.summary.status
    told = (*JUDGES, "eval_loss", "train_loss")
    figures = [f"{METRICS[key].label} {metric_text(key, final[key])}" for key in told if key in final]
    if not figures:
        return "It diverged in its first round." if status == "diverged" else "No round was completed."
    ended = {
        "done": "It ended with",
        "failed": "It failed; the last figures were",
        "diverged": "It diverged; the last figures were",
    }
    return f"{ended.get(status, 'It was stopped; the last figures were')} {', '.join(figures)}."


def emulation(run: RunRecord) -> list[str]:
    """What was not real: the link and the clock. What was: bytes, losses, wall time."""
    config = _resolved(run)
    if config is None:
        link = ["The link was emulated, by settings of another version: config.json has them."]
    else:
        link = [
            f"The link was emulated: {describe_link(config.link)}. Packets, retransmissions and airtime are "
            "those of this emulated link.",
            *_said(config),
        ]
    clock = (
        "The clock was virtual: computing time is counted operations over a declared "
        f"{flops_text(run.setting('client.flops'))}/s for each client and "
        f"{flops_text(run.setting('server.flops'))}/s for the server, so it does not "
        "depend on the machine that ran this; wall time does."
    )
    return [*link, clock, *_live(run), "Real: every loss and metric, and every byte, counted after encoding."]


def learning(run: RunRecord) -> list[str]:
    """What was trained on either side, when the server took it over, and what the controller chose."""
    head, body = (_adapters(run.setting(f"adapter.{side}")) for side in ("head", "body"))
    sides = f"{head} on both sides" if head == body else f"{head} below the cut, {body} above it"
    found = [f"Trained were {sides}."]
    schedule = str(run.setting("federation.schedule")) if "schedule" in run.setting("federation") else ""
    if schedule == "deadline":
        due = seconds_text(run.setting("federation.deadline_s"))
        found.append(
            f"A round was over {due} of virtual time after it began, for whoever was not done by then."
        )
    elif schedule in ("buffered", "anarchic"):
        ages = [row.staleness for row in run.events.updates]
        found.append(
            f"Clients went at their own pace ({schedule}): {len(ages)} pieces of work came in, begun from "
            f"{sum(ages) / max(len(ages), 1):.1f} versions before the newest on average, at most "
            f"{max(ages, default=0)}. A round here is as many clients' rounds as there are clients, whosever "
            "they were."
        )
    config = _resolved(run)
    if config is not None and any(row.kind == "Adapter" for row in run.events.transfers):
        from splitfl.federation.aggregators import describe  # takes torch along

        found.append(describe(config.federation.aggregator))
    chosen = run.setting("auto.chosen") if "auto" in run.config else []
    return [*found, *(f"The controller chose for {reason}." for reason in chosen)]


def _said(config: RunConfig) -> list[str]:
    """What erasure, codecs and analog symbols did to messages."""
    codecs = ""
    if set(config.codec.by_kind().values()) != {"none"}:
        from splitfl.setup.codecs import describe_codecs  # takes torch along

        codecs = describe_codecs(config)
    return list(filter(None, (config.erasure.describe(), codecs, config.analog.describe())))


def _adapters(side: Mapping[str, Any]) -> str:
    """`LoRA of rank 8`, `IA3`: how one side was trained."""
    try:
        return kind_named(side["kind"]).describe(side)
    except ConfigError:  # a plug-in's, which is not installed here
        return f"adapters of kind {side['kind']}"


def loading_code(run: RunRecord) -> str | None:
    """Python that loads the adapter into the unsplit model by transformers and peft; None without one."""
    adapter = run.folder / "adapter"
    if not adapter.is_dir():
        return None
    config = read_table(adapter / "adapter_config.json") if (adapter / "adapter_config.json").exists() else {}
    model = str(config.get("base_model_name_or_path") or run.summary.model)
    kind = TASKS[run.summary.task].kind if run.summary.task in TASKS else SEQUENCE_CLASSIFICATION
    guessed = "CAUSAL_LM" if "perplexity" in run.summary.final else PEFT_TASKS[kind]
    name = CLASSES.get(str(config.get("task_type")), CLASSES[guessed])
    labels = _num_labels(adapter / "adapter_model.safetensors")
    extra = f", num_labels={labels}" if labels else ""
    settings = run.config.get("model")
    if isinstance(settings, Mapping) and settings.get("new_classifier"):
        extra += ", ignore_mismatched_sizes=True"
    inside = "".join(
        f"model = PeftModel.from_pretrained(model.get_base_model(), "
        f"{json.dumps(f'{run.name}/adapter/{folder.name}')})\n"
        for folder in folders_inside(adapter)
    )
    return (
        f"from peft import PeftModel\nfrom transformers import {name}\n\n"
        f"model = {name}.from_pretrained({json.dumps(model)}{extra})\n"
        f"model = PeftModel.from_pretrained(model, {json.dumps(f'{run.name}/adapter')})\n{inside}"
        f"model = model.merge_and_unload()  # only to serve it without peft\n"
    )


def _resolved(run: RunRecord) -> RunConfig | None:
    """The settings of a run, None where they are another version's."""
    try:
        return from_dict(run.config)
    except ConfigError:
        return None


def _live(run: RunRecord) -> list[str]:
    """What a live link adds; nothing where there was none."""
    live = run.summary.live
    if live is None:
        return []
    return [
        "The air was also emulated live: server and clients ran in network namespaces of one machine, and "
        "every packet between them took its time on that link, or was lost, for real; TCP "
        f"({live['congestion']} congestion control) sent again what was lost. Wall time has it in it. The "
        "virtual clock beside it says what was expected; what was measured is in the table On the air, live.",
        kept_up(live),
    ]


def _num_labels(weights: Path) -> int | None:
    """How many classes the trained classifier in this adapter tells apart; None where it holds none."""
    if not weights.exists():
        return None
    try:
        with safe_open(weights, framework="numpy") as tensors:
            names = [name for name in tensors.keys() if name.endswith(CLASSIFIERS)]  # noqa: SIM118
            return int(tensors.get_slice(names[0]).get_shape()[0]) if names else None
    except SafetensorError as error:
        raise ConfigError(f"{weights} is damaged: {error}") from None
