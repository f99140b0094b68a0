"""What crosses is what the formulae say, to the byte; a frame adds a short header to it."""

# B batch, N real tokens of a batch, D hidden

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splitfl.adapters.inject import trainable
from splitfl.core.messages import (
    Activation,
    Adapter,
    Control,
    Gradient,
    Leave,
    Lost,
    Message,
    Output,
    Scalars,
    WeightGradients,
)
from splitfl.methods.fsl_sage import SageSettings
from splitfl.methods.parts.auxiliary import PREFIX, Auxiliary
from splitfl.setup.experiment import Experiment
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import Played, play

ROUNDS, STEPS, CLIENTS, WIDTH = 3, 4, 2, 32
CASES: dict[str, dict[str, Any]] = {
    "sfl-v2": {},
    "sfl-v1": {},
    "frozen": {},
    "ushape": {"partition": {"tail_blocks": 1}},
    "cse-fsl": {"method": {"upload_interval": 3, "auxiliary_blocks": 1}},
    "fsl-sage": {"method": {"upload_interval": 3, "auxiliary_blocks": 1, "align_interval": 2}},
    "heron": {"method": {"upload_interval": 3, "auxiliary_blocks": 1, "perturbations": 2}},
    "mu-splitfed": {"method": {"server_steps": 2}},
    "fedlora": {},
    "diloco": {},
    "dp": {},
}
HEADER_BYTES, HEADER_BYTES_PER_TENSOR = 330, 130
Totals = Counter[tuple[str, str]]


place = toy.place(is_base=True, rows=80)


def site(place: Path, name: str) -> Experiment:
    tables = {key: dict(value) for key, value in CASES[name].items()}
    tables["method"] = {"name": name, **tables.get("method", {})}
    tables["federation"] = {
        "clients": CLIENTS,
        "rounds": ROUNDS,
        "local_steps": STEPS,
        "partition": "iid",
    } | ({} if name == "frozen" else {"aggregator": "mean"})
    return Experiment.of(toy.config(place, **tables))


def roles(message: Message | Lost) -> dict[str, int]:
    """The bytes of a message's tensors by what they are."""
    match message:
        case Activation():
            hidden = message.hidden.nbytes if message.hidden is not None else 0
            context = sum(tensor.nbytes for tensor in message.context.values())
            labels = message.labels.nbytes if message.labels is not None else 0
            return {"hidden": hidden, "labels": labels, "context": context, "ids": message.ids_B.nbytes}
        case Output():
            return {"hidden": message.hidden.nbytes, "ids": message.ids_B.nbytes}
        case Gradient():
            return {"hidden": message.grad.nbytes, "ids": message.ids_B.nbytes}
        case Adapter():
            found = Counter[str]()
            for name, tensor in message.tensors.items():
                found["auxiliary" if name.startswith(PREFIX) else "adapter"] += tensor.nbytes
            return found
        case Scalars():
            return {"scalars": message.values.nbytes}
        case WeightGradients():
            return {"gradients": sum(tensor.nbytes for tensor in message.gradients.values())}
    return {}


def totals(played: Played) -> Totals:
    found = Totals()
    for _, _, message, reply in played.said:
        for direction, one in (("up", message), ("down", reply)):
            found.update({(direction, role): count for role, count in roles(one).items()})
    return found


def trained(site: Experiment, name: str) -> dict[str, int]:
    """Bytes of what is trained: of the head, of the tail, of the auxiliary, of the whole model."""
    whole = {key: value.nbytes for key, value in trainable(site.whole()).items()}
    top = {key: size for key, size in whole.items() if ".layer.3." in key or "classifier" in key}
    head = {key: size for key, size in whole.items() if ".layer.0." in key or ".layer.1." in key}
    sizes = {"head": head, "tail": top, "auxiliary": top, "whole": whole}
    return {part: sum(own.values()) for part, own in sizes.items()}


def formula(site: Experiment, name: str) -> Totals:
    """METHODS.md's table: N b for a hidden state, Y for labels, 4 d for d trained numbers.

    Every round's adapters go up; they come down as the next round begins.
    """
    auxiliary, sage = site.config.method.find(Auxiliary), site.config.method.find(SageSettings)
    interval, align = auxiliary.upload_interval if auxiliary else 1, sage.align_interval if sage else 1
    hidden = labels = 0
    for client in range(CLIENTS):
        batches = site.batches(client)
        steps = [STEPS * at + step for at in range(ROUNDS) for step in range(0, STEPS, interval)]
        for step in steps if name != "frozen" else range(len(batches)):
            batch = batches.batch(step)
            hidden += 4 * WIDTH * int(batch.inputs["attention_mask"].sum())
            labels += 8 * len(batch.labels)
    d = trained(site, name)
    up, down = CLIENTS * ROUNDS, CLIENTS * (ROUNDS - 1)
    both = {("up", "hidden"): hidden, ("up", "labels"): labels}
    match name:
        case "sfl-v1" | "sfl-v2":
            return Totals(
                both
                | {("down", "hidden"): hidden}
                | {("up", "adapter"): up * d["head"], ("down", "adapter"): down * d["head"]}
            )
        case "frozen":
            return Totals(both)
        case "ushape":
            own = d["head"] + d["tail"]
            return Totals(
                {("up", "hidden"): 2 * hidden, ("down", "hidden"): 2 * hidden}
                | {("up", "adapter"): up * own, ("down", "adapter"): down * own}
            )
        case "mu-splitfed":
            three = {("up", "hidden"): 3 * hidden, ("up", "labels"): labels}
            scalars = {("down", "scalars"): 4 * CLIENTS * ROUNDS * STEPS}
            weights = {("up", "adapter"): up * d["head"], ("down", "adapter"): down * d["head"]}
            return Totals(three | scalars | weights)
        case "cse-fsl" | "heron":
            weights = {"adapter": d["head"], "auxiliary": d["auxiliary"]}
            return Totals(
                both
                | {("up", part): up * size for part, size in weights.items()}
                | {("down", part): down * size for part, size in weights.items()}
            )
        case "fsl-sage":
            aligned = CLIENTS * len(range(1, ROUNDS, align))
            return Totals(
                both
                | {("up", "adapter"): up * d["head"], ("down", "adapter"): down * d["head"]}
                | {("down", "auxiliary"): aligned * d["auxiliary"]}
            )
        case "dp":
            every = CLIENTS * ROUNDS * STEPS * d["whole"]
            return Totals({("up", "gradients"): every, ("down", "gradients"): every})
        case "fedlora" | "diloco":
            return Totals({("up", "adapter"): up * d["whole"], ("down", "adapter"): down * d["whole"]})
    raise AssertionError(f"no formula for {name}")


@pytest.mark.parametrize("name", quick(CASES, "sfl-v2"))
def test_the_bytes_are_those_of_the_formula(name: str, place: Path, tmp_path: Path) -> None:
    one = site(place, name)
    played = play(one, tmp_path)
    found = totals(played)
    kept = {key: count for key, count in found.items() if key[1] not in ("ids", "context") and count}
    assert kept == {key: count for key, count in formula(one, name).items() if count}
    assert all(over < allowed for over, allowed in overheads(played))


def overheads(played: Played) -> Iterator[tuple[int, int]]:
    """For every frame: its bytes beyond its tensors, and how many these may be."""
    said = [pair for _, _, message, reply in played.said for pair in (("up", message), ("down", reply))]
    for direction in ("up", "down"):
        rows = [row for row in played.rows("transfer") if row["direction"] == direction]
        ours = [one for way, one in said if way == direction and not isinstance(one, Leave)]
        ours = ours[: len(rows)]  # the answers to `leave` are not counted
        for row, message in zip(rows, ours, strict=True):
            assert row["kind"] == ("Control" if isinstance(message, Control) else type(message).__name__)
            tensors = message.tensors if isinstance(message, Adapter) else roles(message)
            tensors = message.gradients if isinstance(message, WeightGradients) else tensors
            yield (
                row["payload_bytes"] - sum(roles(message).values()),
                HEADER_BYTES + HEADER_BYTES_PER_TENSOR * len(tensors),
            )
