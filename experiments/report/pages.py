"""HTML pages: the report of one run, and the comparison of several.

Every page is one self-contained HTML file without scripts. The templates are Jinja's, which is a
dependency of torch and escapes all values of a run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.live.figures import link_rows
from experiments.live.radio_figures import radio_rows
from experiments.report import plots
from experiments.report.classes import class_rows
from experiments.report.client_table import COLUMNS, client_rows, write_clients
from experiments.report.codecs import codec_cells
from experiments.report.leakage import headline_text, leak_rows, text_rows
from experiments.report.node_pages import PAGE, node_pages, write_page
from experiments.report.node_timeline import delay_rows
from experiments.report.nodes import client_nodes, node_rows
from experiments.report.panels import MAX_CLIENTS
from experiments.report.story import emulation, headline, learning, loading_code, outcome
from experiments.report.tally import by_client, curve, measured
from experiments.report.tiles import tiles
from experiments.report.timeline import representative, spans_by_round
from experiments.report.writing import write_whole
from splitfl.core.errors import ConfigError
from splitfl.core.metrics import JUDGES, METRICS
from splitfl.core.quantities import bytes_text, flops_text, metric_text, percent_text, rate_text, seconds_text
from splitfl.run_folder.read import RunRecord, read_run

MAX_VALUE = 300
"""Maximum number of characters that are shown of a setting's value."""

TEMPLATES = Path(__file__).parent / "templates"

UNITS = {
    "bytes": bytes_text,
    "rate": rate_text,
    "seconds": seconds_text,
    "percent": percent_text,
    "flops": flops_text,
    "sentence": lambda words: words[:1].upper() + words[1:],
}


_PLOTS = {
    "loss": plots.loss,
    "metric": lambda run: plots.metric(run, "rounds"),
    "metric_bytes": lambda run: plots.metric(run, "bytes"),
    "leakage": plots.leakage,
    "traffic": plots.traffic,
    "airtime": plots.airtime,
    "shares": plots.time_shares,
    "timeline": plots.timeline,
    "plans": plots.plans,
    "confusion": plots.confusion,
    "waveform": plots.waveform,
    "packets": plots.packets,
    "channel": plots.estimated_channel,
    "spectrum": plots.heard_spectrum,
}


def write_report(folder: Path) -> Path:
    """Writes report.html into this run folder, replacing an older one; returns its path.

    Raises ConfigError for a folder without a readable run, or one that is not writable.
    """
    run = read_run(folder)
    clients = by_client(run)
    nodes = node_rows(folder)
    delays = delay_rows(folder, client_nodes(folder))
    for path, values in node_pages(folder, delays).items():
        write_page(folder, path, render("node.html.jinja", run=run, **values))
    page = render(
        "report.html.jinja",
        run=run,
        headline=headline(run),
        outcome=outcome(run),
        learning=learning(run),
        emulation=emulation(run),
        tiles=tiles(run),
        pictures={name: Markup(draw(run)) for name, draw in _PLOTS.items()},
        metric=METRICS[judge].label.removeprefix("held-out ") if (judge := measured(run)) else None,
        classes=class_rows(run),
        shown_round=representative(spans_by_round(run)) + 1 if spans_by_round(run) else None,
        max_clients=MAX_CLIENTS,
        num_clients=len(clients),
        columns=COLUMNS,
        clients=client_rows(clients),
        clients_file=write_clients(folder, clients),
        codecs=codec_cells(run.summary.codecs),
        live=link_rows(run.summary.live) if run.summary.live else [],
        radio=radio_rows(run.summary.radio) if run.summary.radio else [],
        leaks=leak_rows(run),
        texts=text_rows(folder),
        nodes=nodes,
        node_page=PAGE,
        delays=delays,
        node_timeline=Markup(plots.node_timeline(folder)),
        code=loading_code(run),
        settings={key: _shortened(value) for key, value in _flat(run.config).items()},
    )
    return write_whole(folder / "report.html", page.encode())


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Writes a page that compares these runs, in this order, to `out`; returns the path.

    The metric is the first of JUDGES that all runs have, else held-out loss, else training loss. Raises
    ConfigError as `write_report` does.
    """
    if not folders:
        raise ConfigError("a comparison needs at least one run folder, got none")
    runs = [read_run(folder) for folder in folders]
    names = _names(runs)
    metric = _common_metric(runs)
    page = render(
        "comparison.html.jinja",
        rows=list(zip(names, runs, strict=True)),
        metric=METRICS[metric].label,
        leaked={name: headline_text(run) for name, run in zip(names, runs, strict=True)},
        last={name: _last(run, metric) for name, run in zip(names, runs, strict=True)},
        pictures={
            spent: Markup(plots.comparison(runs, metric, spent)) for spent in ("rounds", "bytes", "airtime")
        },
        legend=Markup(plots.legend(names)),
        differing=_differing(names, runs),
    )
    return write_whole(out, page.encode())


def _common_metric(runs: Sequence[RunRecord]) -> str:
    for metric in (*JUDGES, "eval_loss"):
        if all(curve(run, metric).xs for run in runs):
            return metric
    return "train_loss"


def _last(run: RunRecord, metric: str) -> str:
    values = curve(run, metric).ys
    return metric_text(metric, values[-1]) if values else "none"


def _names(runs: Sequence[RunRecord]) -> list[str]:
    """Unique names: the folder's, with the parent's name, then an index, if they collide."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = ["/".join(run.folder.resolve().parts[-2:]) for run in runs]
    numbered = [(name, f"{name} ({place})") for place, name in enumerate(names, start=1)]
    unique = [name if names.count(name) == 1 else with_place for name, with_place in numbered]
    return [
        f"{name}, diverged" if run.summary.status == "diverged" else name
        for name, run in zip(unique, runs, strict=True)
    ]


def _differing(names: Sequence[str], runs: Sequence[RunRecord]) -> dict[str, dict[str, str]]:
    """Setting -> run -> value, for settings that differ between runs."""
    flat = {name: _flat(run.config) for name, run in zip(names, runs, strict=True)}
    keys = sorted({key for settings in flat.values() for key in settings})
    table = {key: {name: settings.get(key, "not set") for name, settings in flat.items()} for key in keys}
    return {key: row for key, row in table.items() if len(set(row.values())) > 1}


def _flat(table: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Nested tables as dotted keys: `link.up.rate_bps` -> `10000000.0`."""
    flat: dict[str, str] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": str(value)}
    return flat


def _shortened(value: str) -> str:
    """A long list of values, as of the clients' cuts, by its beginning."""
    return value if len(value) <= MAX_VALUE else f"{value[:MAX_VALUE]}... (all of it is in config.json)"


def render(template: str, **values: Any) -> str:
    """The rendered template; values that are not Markup are escaped."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= UNITS
    return pages.get_template(template).render(**values)
