"""The house style of every picture: one palette, one pen, and SVG that takes its ink from the page.

Text stays text and its colours become CSS variables (`--ink`, `--muted`, `--grid`, `--idle`,
each with its light value as the fallback), so a picture follows the page into a dark theme
and still stands alone. The same input gives the same bytes: ids are salted, nothing is dated.
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
    from matplotlib.typing import RcKeyType  # of recent versions only

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999933")
"""Okabe and Ito's colours for all kinds of colour vision, without those that vanish on white or
black; the last is Tol's olive."""

INK, MUTED, GRID, IDLE = "#1b1f24", "#59636f", "#d8dde3", "#e3e7ec"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", IDLE: "idle"}

PIXELS_PER_INCH = 72
"""SVG counts 72 units to the inch: a figure of 7.2 inches is 518 px wide and its text true to size."""

_PEN: "dict[RcKeyType, Any]" = {
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
    """Draw and save inside this; matplotlib's settings are as before afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PEN)
        yield


def canvas(width_px: float, height_px: float) -> Figure:
    """An empty figure of this size that keeps its labels apart."""
    size = (width_px / PIXELS_PER_INCH, height_px / PIXELS_PER_INCH)
    return Figure(figsize=size, dpi=PIXELS_PER_INCH, layout="constrained")


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element for a page; `name` keeps its ids apart from other pictures'."""
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
    """The x axis counts whole rounds."""
    axes.set_xlabel("rounds completed")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def legend_above(axes: Axes, columns: int = 3) -> None:
    """The legend between title and picture, where it covers nothing; none where nothing is labelled."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2,
            handlelength=1.4, columnspacing=1.2, borderpad=0.2,
        )  # fmt: skip


def say_empty(axes: Axes, what: str) -> None:
    """A picture of nothing says so."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center", color=MUTED)
