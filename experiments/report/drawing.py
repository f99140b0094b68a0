"""The style of all plots: one palette, matplotlib settings, and SVG with colours from the page's CSS.

Text remains text and its colours become CSS variables (`--ink`, `--muted`, `--grid`, `--idle`,
each with its light value as the fallback), so that a plot follows a dark theme and is also valid
alone. Output is deterministic: ids are salted, and there are no dates.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType  # recent versions only

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999933")
"""Okabe and Ito's colour-blind safe palette, without colours invisible on white or black; the last is
Tol's olive."""

INK, MUTED, GRID, IDLE = "#1b1f24", "#59636f", "#d8dde3", "#e3e7ec"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", IDLE: "idle"}

PIXELS_PER_INCH = 72
"""SVG has 72 units per inch: a figure of 7.2 inches is 518 px wide."""

_RC_PARAMS: "dict[RcKeyType, Any]" = {
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "lines.linewidth": 2.0,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "none",
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "splitfl",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Applies the style within the context; matplotlib's settings are restored afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC_PARAMS)
        yield


def canvas(width_px: float, height_px: float) -> Figure:
    """An empty figure of this size with constrained layout."""
    size = (width_px / PIXELS_PER_INCH, height_px / PIXELS_PER_INCH)
    return Figure(figsize=size, dpi=PIXELS_PER_INCH, layout="constrained")


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element for a page; `name` prefixes its ids."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # `savefig` would draw it twice
    FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([^;\"]*?\d(?:px|pt)?) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable}, {colour})")
    return text


def in_bytes(axes: Axes, axis: str) -> None:
    """Ticks as `12 MB`, at most six of them."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_formatter(EngFormatter(unit="B"))
    chosen.set_major_locator(MaxNLocator(5))


def in_rounds(axes: Axes) -> None:
    """Labels the x axis as completed rounds, with integer ticks."""
    axes.set_xlabel("rounds completed")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def legend_above(axes: Axes, columns: int = 3) -> None:
    """Puts the legend between title and plot; no legend without labels."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2,
            handlelength=1.4, columnspacing=1.2, borderpad=0.2,
        )  # fmt: skip


def draw_empty(axes: Axes, what: str) -> None:
    """Shows a message in place of a plot without data."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center", color=MUTED)
