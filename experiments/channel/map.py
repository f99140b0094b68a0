"""A map of nodes, or the matrix of path losses for scenarios without positions.

Axes: U users; N nodes.
"""

import numpy as np
from matplotlib.axes import Axes

from channel.cell.build_cell import cell_of
from channel.cell.cell import CellResult
from channel.core.arrays import Array
from channel.propagation.placement import hexagonal_sites
from channel.scenario.load import Scenario

_INK = "#333333"
_LABELS = 20
"""Users are numbered up to this many."""


def losses_db(made: Scenario) -> Array | None:
    """Mean path path loss of each link in dB (N, N), sender first, nan for no link; None for placed nodes."""
    if made.taps.is_given:
        power = made.taps.node_taps().power_NN
        strength_db = 10.0 * np.log10(np.where(power > 0.0, power, np.nan))
        return made.place.loss_db - strength_db
    if made.links.loss_db:
        loss_db = made.place.loss_db + np.asarray(made.links.loss_db)
        return np.where(np.eye(loss_db.shape[0]) > 0.0, np.nan, loss_db)
    return None


def draw_map(axes: Axes, made: Scenario, result: CellResult) -> None:
    """Draws users coloured by downlink SINR, base stations and jammers; or the matrix of path losses."""
    loss_db = losses_db(made)
    if loss_db is not None:
        _matrix(axes, loss_db)
        return
    _others(axes, made)
    start = result.position_U2
    end = cell_of(made).sinr_models["up"].mobility.at(np.asarray([result.duration_s]))[0]
    axes.plot(*np.stack([start, end]).transpose(2, 0, 1), color=_INK, linewidth=0.8, alpha=0.5)
    dots = axes.scatter(
        start[:, 0],
        start[:, 1],
        c=result.mean_sinr_db["down"],
        cmap="cividis",
        s=60,
        edgecolors="white",
        linewidths=0.8,
        zorder=3,
        label="user and trajectory",
    )
    if len(start) <= _LABELS:
        for user, position in enumerate(start):
            axes.annotate(
                str(user), position, xytext=(5, 5), textcoords="offset points", fontsize=8, color=_INK
            )
    axes.set(xlabel="x (m)", ylabel="y (m)")
    axes.set_title("positions", color=_INK, loc="left", fontweight="bold")
    axes.margins(0.1)
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color="#EEEEEE", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.12), ncols=4)
    axes.figure.colorbar(dots, ax=axes, label="mean downlink SINR (dB)", shrink=0.9)


def _others(axes: Axes, made: Scenario) -> None:
    axes.plot(0.0, 0.0, "^", color=_INK, markersize=13, zorder=4, label="base station")
    if made.neighbours.rings:
        sites = hexagonal_sites(made.neighbours.rings, spacing_m=made.neighbours.spacing_m)[1:]
        axes.plot(*sites.T, "^", color="#E69F00", markersize=10, label="interfering neighbour", linestyle="")
    if made.jammer.kind:
        x_m, y_m = made.jammer.position_m
        axes.plot(x_m, y_m, "X", color="#CC79A7", markersize=13, zorder=4, label="jammer", linestyle="")


def _matrix(axes: Axes, loss_db: Array) -> None:
    image = axes.imshow(loss_db, cmap="cividis_r")
    nodes = loss_db.shape[0]
    names = ["base", *(f"user {user}" for user in range(nodes - 1))]
    if nodes <= 12:
        middle = (np.nanmin(loss_db) + np.nanmax(loss_db)) / 2.0
        for (sender, receiver), value in np.ndenumerate(loss_db):
            if np.isfinite(value):
                ink = "white" if value > middle else "black"
                axes.text(receiver, sender, f"{value:.0f}", ha="center", va="center", color=ink, fontsize=9)
        axes.set_xticks(range(nodes), names, rotation=45, ha="right")
        axes.set_yticks(range(nodes), names)
    axes.set(xlabel="receiver", ylabel="sender")
    axes.set_title("path loss of each link", color=_INK, loc="left", fontweight="bold")
    axes.figure.colorbar(image, ax=axes, label="mean loss (dB)", shrink=0.9)
