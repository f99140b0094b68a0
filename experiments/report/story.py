"""Sentences of a run's report: setup, outcome, emulation, training, and code that loads the result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from experiments.live.figures import kept_up
from experiments.live.radio_figures import in_real_time
from experiments.report.waveform import lacking
from splitfl.adapters.export import folders_inside
from splitfl.adapters.registry import kind_named
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.core.metrics import JUDGES, METRICS
from splitfl.core.quantities import flops_text, metric_text, seconds_text
from splitfl.data.tasks import TASKS
from splitfl.models.families import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
)
from splitfl.run_folder.read import RunRecord, read_table
from splitfl.setup.experiment_file import from_dict
from splitfl.setup.links import describe_link
from splitfl.transport.registry import TRANSPORTS, transport

CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "IMAGE_CLS": "AutoModelForImageClassification",
}
"""peft's task type, as adapter_config.json holds it -> the transformers class of the unsplit model."""

PEFT_TASKS = {
    CAUSAL_LM: "CAUSAL_LM",
    SEQ2SEQ_LM: "SEQ_2_SEQ_LM",
    SEQUENCE_CLASSIFICATION: "SEQ_CLS",
    TOKEN_CLASSIFICATION: "TOKEN_CLS",
    IMAGE_CLASSIFICATION: "IMAGE_CLS",
}

CLASSIFIERS = ("classifier.weight", "score.weight", "classifier.out_proj.weight")


def headline(run: RunRecord) -> str:
    """The experiment in one sentence."""
    summary = run.summary
    clients = "1 client" if summary.clients == 1 else f"{summary.clients} clients"
    rounds = "1 round" if summary.rounds == 1 else f"{summary.rounds} rounds"
    transport = run.setting("transport.name")
    spec = dict(TRANSPORTS).get(transport)
    is_cut = any(row.kind == "Activation" for row in run.events.transfers)
    cut = f", cut after block {run.setting('partition.cut')}," if is_cut else ""
    return (
        f"{clients} and a server fine-tuned {summary.model}{cut} on {summary.task} "
        f"({run.setting('federation.partition')} partition) with {summary.method} "
        f"for {rounds}, {spec.describe if spec else f'over {transport}'}."
    )


def outcome(run: RunRecord) -> str:
    """The outcome in one sentence."""
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
    return f"{ended.get(status, 'It was interrupted; the last figures were')} {', '.join(figures)}."


def emulation(run: RunRecord) -> list[str]:
    """The emulated parts (link, clock) and the real ones (bytes, losses, wall time)."""
    config = _resolved(run)
    if config is None:
        link = ["The link was emulated, with settings of another version; see config.json."]
    else:
        link = [_link(config), *_encoding(config)]
    clock = (
        "The clock was virtual: computing time is counted operations over a declared "
        f"{flops_text(run.setting('client.flops'))}/s for each client and "
        f"{flops_text(run.setting('server.flops'))}/s for the server, so it does not "
        "depend on the machine; wall time does."
    )
    return [
        *link,
        clock,
        *_live(run),
        *_radio(run),
        "Real: every loss and metric, and every byte, counted after encoding.",
    ]


def _link(config: RunConfig) -> str:
    """What carried the messages, emulated or not."""
    if (describe := transport(config.transport.name).describe_link) is not None:
        return describe(config.transport)
    return (
        f"The link was emulated: {describe_link(config.link)}. Packets, retransmissions and airtime are "
        "those of this link."
    )


def learning(run: RunRecord) -> list[str]:
    """Trained parameters on each side, schedule, aggregation, and the controller's choices."""
    head, body = (_adapters(run.setting(f"adapter.{side}")) for side in ("head", "body"))
    sides = f"{head} on both sides" if head == body else f"{head} below the cut, {body} above it"
    found = [f"Trained parameters: {sides}."]
    schedule = str(run.setting("federation.schedule")) if "schedule" in run.setting("federation") else ""
    if schedule == "deadline":
        due = seconds_text(run.setting("federation.deadline_s"))
        found.append(f"A round ended {due} of virtual time after its start for clients that were not done.")
    elif schedule in ("buffered", "anarchic"):
        ages = [row.staleness for row in run.events.updates]
        found.append(
            f"Clients were asynchronous ({schedule}): {len(ages)} updates arrived, with a mean staleness of "
            f"{sum(ages) / max(len(ages), 1):.1f} versions and a maximum of {max(ages, default=0)}. A round "
            f"here is {run.summary.clients} client updates, from any clients."
        )
    batch = run.setting("method").get("server_batch", 1)  # earlier versions have none
    if batch > 1:
        found.append(f"The server trained on the activations of up to {batch} clients in one step.")
    config = _resolved(run)
    if config is not None and any(row.kind == "Adapter" for row in run.events.transfers):
        from splitfl.federation.aggregators import describe  # imports torch

        found.append(describe(config.federation.aggregator))
    if optimiser := run.setting("method").get("outer_optimiser"):
        rate = run.setting("method.outer_lr")
        found.append(f"The server took steps on outer gradients by {optimiser!r} with rate {rate:g}.")
    chosen = run.setting("auto.chosen") if "auto" in run.config else []
    return [*found, *(f"The controller chose for {reason}." for reason in chosen)]


def _encoding(config: RunConfig) -> list[str]:
    """How erasure policies, codecs and analog symbols changed messages."""
    codecs = ""
    if set(config.codec.by_kind().values()) != {"none"}:
        from splitfl.setup.codecs import describe_codecs  # imports torch

        codecs = describe_codecs(config)
    return list(filter(None, (config.erasure.describe(), codecs, config.analog.describe())))


def _adapters(side: Mapping[str, Any]) -> str:
    """The adapters of one side, for example `LoRA of rank 8`."""
    try:
        return kind_named(side["kind"]).describe(side)
    except ConfigError:  # of a plug-in that is not installed
        return f"adapters of kind {side['kind']}"


def loading_code(run: RunRecord) -> str | None:
    """Python code that loads the adapter into the unsplit model; None without an adapter."""
    adapter = run.folder / "adapter"
    if not adapter.is_dir():
        return None
    config = read_table(adapter / "adapter_config.json") if (adapter / "adapter_config.json").exists() else {}
    model = str(config.get("base_model_name_or_path") or run.summary.model)
    kind = TASKS[run.summary.task].kind if run.summary.task in TASKS else SEQUENCE_CLASSIFICATION
    guessed = "CAUSAL_LM" if "perplexity" in run.summary.final else PEFT_TASKS[kind]
    name = CLASSES.get(str(config.get("task_type")), CLASSES[guessed])
    name = (config.get("auto_mapping") or {}).get("base_model_class", name)
    labels = _num_labels(adapter / "adapter_model.safetensors")
    extra = f", num_labels={labels}" if labels else ""
    settings = run.config.get("model")
    if isinstance(settings, Mapping) and settings.get("new_classifier"):
        extra += ", ignore_mismatched_sizes=True"
    imports, quantised = _quantised_loading(settings if isinstance(settings, Mapping) else {})
    merge = "" if quantised else "model = model.merge_and_unload()  # optional: to serve it without peft\n"
    inside = "".join(
        f"model = PeftModel.from_pretrained(model.get_base_model(), "
        f"{json.dumps(f'{run.name}/adapter/{folder.name}')})\n"
        for folder in folders_inside(adapter)
    )
    return (
        f"from peft import PeftModel\n{imports}from transformers import {name}\n\n"
        f"model = {name}.from_pretrained({json.dumps(model)}{extra}{quantised})\n"
        f"model = PeftModel.from_pretrained(model, {json.dumps(f'{run.name}/adapter')})\n{inside}{merge}"
    )


def _quantised_loading(model: Mapping[str, Any]) -> tuple[str, str]:
    """The import and the argument with which transformers quantises a model as the run did; else empty."""
    kept = json.dumps(["classifier", "score", "lm_head"])
    group = f"granularity=torchao.PerGroup({model.get('quantization_group_size')})"
    config = {
        "int8": f"TorchAoConfig(torchao.Int8WeightOnlyConfig(), modules_to_not_convert={kept})",
        "int4": f"TorchAoConfig(torchao.IntxWeightOnlyConfig(weight_dtype=torch.int4, {group}), "
        f"modules_to_not_convert={kept})",
        "nf4": 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", '
        f"bnb_4bit_compute_dtype=torch.{model.get('dtype')}, llm_int8_skip_modules={kept})",
    }.get(str(model.get("quantization")))
    if config is None:
        return "", ""
    torchao = "import torchao.quantization as torchao\n" if "torchao" in config else ""
    imports = f"import torch\n{torchao}from transformers import {config.partition('(')[0]}\n"
    return imports, f',\n    quantization_config={config},\n    device_map="cpu",\n'


def _resolved(run: RunRecord) -> RunConfig | None:
    """The settings of a run, None if they are of another version."""
    try:
        return from_dict(run.config)
    except ConfigError:
        return None


def _live(run: RunRecord) -> list[str]:
    """Sentences on the live link; empty without one."""
    live = run.summary.live
    if live is None:
        return []
    return [
        "The link was also emulated live: server and clients ran in network namespaces of one machine, and "
        "every packet between them was delayed or lost in real time; TCP "
        f"({live['congestion']} congestion control) retransmitted losses. Wall time includes this. The "
        "virtual clock has the predicted times; the table Live link has the measured ones.",
        kept_up(live),
    ]


def _radio(run: RunRecord) -> list[str]:
    """Sentences on the waveform; empty without one."""
    radio = run.summary.radio
    if radio is None:
        return []
    if "slipped_s" not in radio:
        return [in_real_time(radio), *lacking(run)]
    return [
        "Messages also crossed a modulated waveform: server and clients ran in network namespaces of one "
        f"machine, whose IP packets were sent as OFDM with LDPC codes (MCS {radio['mcs']}, "
        f"{radio['rate_hz']:g} samples a second) through the channel of the scenario {radio['scenario']}, "
        "sample by sample; ARQ repeated packets with errors. The channel was emulated, the modem was not. "
        "Packets and airtime above are those of [link]; the section Waveform has what was measured.",
        in_real_time(radio),
        *lacking(run),
    ]


def _num_labels(weights: Path) -> int | None:
    """The number of classes of the adapter's trained classifier; None without one."""
    if not weights.exists():
        return None
    try:
        with safe_open(weights, framework="numpy") as tensors:
            names = [name for name in tensors.keys() if name.endswith(CLASSIFIERS)]  # noqa: SIM118
            return int(tensors.get_slice(names[0]).get_shape()[0]) if names else None
    except SafetensorError as error:
        raise ConfigError(f"{weights} is damaged: {error}") from None
