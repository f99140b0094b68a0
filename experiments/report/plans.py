"""The controller's plan for each client, by round."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes

from experiments.report.drawing import MUTED, PALETTE, in_rounds, legend_above
from splitfl.run_folder.events import Planned
from splitfl.run_folder.read import RunRecord

HEIGHT = 0.7


def plan_text(plan: Planned) -> str:
    """A short description of a plan."""
    from splitfl.methods.registry import controllable  # imports torch

    update = controllable().get(plan.method)
    training = f"rank {plan.rank} by {plan.method}" if update is None or update.trains_head else "head frozen"
    return f"cut {plan.cut}, {training}{'' if plan.codec == 'none' else f', {plan.codec}'}"


def draw_plans(axes: Axes, run: RunRecord, max_clients: int) -> None:
    """A lane for every client, coloured by its plan; the rarest plans share one colour."""
    rounds = len(run.events.rounds)
    spans = [span for span in _spans(run.events.plans, rounds) if span[0].client < max_clients]
    kinds = Counter[str]()
    for plan, first, last in spans:
        kinds[plan_text(plan)] += last - first
    colours = dict(zip((name for name, _ in kinds.most_common()), PALETTE, strict=False))
    clients = sorted({plan.client for plan, _, _ in spans})
    for name in kinds:
        colour, label = colours.get(name, MUTED), name if name in colours else "others"
        for plan, first, last in spans:
            if plan_text(plan) == name:
                lane = (clients.index(plan.client) - HEIGHT / 2, HEIGHT)
                is_new = label not in axes.get_legend_handles_labels()[1]
                bar = axes.broken_barh([(first + 0.53, last - first - 0.06)], lane, facecolors=colour)
                bar.set_label(label if is_new else "_")
    axes.set_yticks(range(len(clients)), [f"client {client}" for client in clients])
    axes.set_ylim(len(clients) - 0.4, -0.6)
    axes.set_xlim(0.5, rounds + 0.5)
    axes.grid(visible=False, axis="y")
    in_rounds(axes)
    legend_above(axes)


def _spans(plans: Sequence[Planned], rounds: int) -> list[tuple[Planned, int, int]]:
    """Each plan with its first round and the round after its last."""
    found, until = [], dict[int, int]()
    for plan in reversed(plans):
        if plan.round < rounds:
            found.append((plan, plan.round, until.get(plan.client, rounds)))
            until[plan.client] = plan.round
    return found[::-1]
