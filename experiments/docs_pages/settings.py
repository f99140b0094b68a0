"""The page of an experiment's settings: every table and key."""

from typing import Final

from experiments.docs_pages.markdown import heading
from experiments.docs_pages.settings_table import about, keys_table, nested
from splitfl.config import RunConfig

REGISTERED: Final = {
    "model.name": "[models](/families.md), or a folder",
    "task.name": "[tasks](tasks.md)",
    "adapter.head.kind": "[adapters](adapters.md)",
    "adapter.body.kind": "[adapters](adapters.md)",
    "federation.aggregator": "[aggregators](aggregators.md)",
    "method.name": "[methods](methods.md)",
    "auto.methods": "[methods](methods.md)",
    "tracking.to": "[trackers](trackers.md)",
    "privacy.probes": "[attacks](attacks.md)",
    "link.kind": "[links](links.md)",
    "link.scenario": "[scenarios](scenarios.md), or a file",
    "codec.activation": "[codecs](codecs.md)",
    "codec.output": "[codecs](codecs.md)",
    "codec.gradient": "[codecs](codecs.md)",
    "codec.adapter_up": "[codecs](codecs.md)",
    "codec.adapter_down": "[codecs](codecs.md)",
    "auto.codecs": "[codecs](codecs.md)",
    "transport.name": "[transports](transports.md)",
}
"""Settings that name an entry of another page."""

_HEAD: Final = """# Settings

An experiment is a TOML file with these tables, or the same as JSON; a key that it leaves out has its default.
On the command line `--set TABLE.KEY=VALUE` overrides one key. Unknown keys, values that are not allowed, and
keys that the chosen method, adapter kind, transport or link does not read are refused before anything runs.

"""


def page() -> str:
    """The whole page."""
    return _HEAD + "\n".join(_section(path, settings) for path, settings in nested(RunConfig()) if path)


def _section(path: str, settings: object) -> str:
    links = {
        key.rpartition(".")[2]: link for key, link in REGISTERED.items() if key.rpartition(".")[0] == path
    }
    text = f"{about(settings)}\n\n{keys_table(settings, links)}"
    return heading(2, f"`[{path}]`", label(path)) + text


def label(path: str) -> str:
    """What other pages link to as the section of this table."""
    return f"setting-{path}".replace(".", "-").replace("_", "-")
