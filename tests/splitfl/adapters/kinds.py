"""A side of every kind of adapter that there is, with settings of its own where the kind reads them."""

from typing import Any

import pytest

from splitfl.adapters.registry import ADAPTERS, side_config
from splitfl.config import AdapterConfig, SideConfig, key_types

ADDED = [name for name, kind in ADAPTERS.items() if not kind.trains_all]
"""The kinds that add adapters, rather than train all that there is."""

SMALL: dict[str, Any] = {"rank": 3, "alpha": 5.0, "trained_numbers": 5, "block_size": 8}
MOST = {"lokr": 3}
"""The highest ranks of the small models' modules, where a kind has such a limit."""
OTHER: dict[str, Any] = {"rank": 7, "alpha": 2.0, "trained_numbers": 13, "block_size": 8}


def side(kind: str, settings: dict[str, Any] = SMALL, **own: Any) -> SideConfig:
    """A side of this kind, with those of these settings that the kind reads."""
    settings = {**settings, "rank": min(settings["rank"], MOST.get(kind, settings["rank"]))}
    read = {key: value for key, value in settings.items() if key in key_types(ADAPTERS[kind].settings)}
    return side_config(kind, **read, **own)


def both(kind: str) -> AdapterConfig:
    """This kind on both sides, with other settings on each."""
    return AdapterConfig(head=side(kind), body=side(kind, OTHER))


ORTHOGONAL = "lora with orthogonal factors and rsLoRA's scale in each block"
PAIRS = {
    **{f"{kind} alone": both(kind) for kind in ADDED},
    **{f"{kind} below lora": AdapterConfig(head=side(kind), body=side("lora")) for kind in ADDED[1:]},
    **{f"one {kind} for both": AdapterConfig(head=side(kind), body=side(kind)) for kind in ADDED},
    **{
        f"a {kind}'s rank for each block": AdapterConfig(
            head=side(kind, ranks=(2, 3)), body=side(kind, ranks=(3, 1))
        )
        for kind in ADDED
        if "ranks" in key_types(ADAPTERS[kind].settings)
    },
    "lora with principal singular vectors each block": AdapterConfig(
        head=side("lora", init="pissa"), body=side("lora", init="pissa", ranks=(3, 1))
    ),
    ORTHOGONAL: AdapterConfig(
        head=side_config(rank=4, init="orthogonal", use_rslora=True),
        body=side_config(rank=4, init="orthogonal", ranks=(2, 6), use_rslora=True),
    ),
    "dora of all linear modules with rsLoRA's scale alone": AdapterConfig(
        head=side("dora", use_rslora=True, targets=("all-linear",)),
        body=side("dora", OTHER, targets=("all-linear",), use_rslora=True, layers_to_transform=(3,)),
    ),
    "lora below ia3": AdapterConfig(head=side("lora"), body=side("ia3")),
    "loha below ia3": AdapterConfig(head=side("loha"), body=side("ia3")),
}
"""Kinds alone, beside another, and with one setting for both sides or several for one."""

SHOWN = (
    *("dora alone", "ia3 alone", "tinylora alone", "oft alone", "dora below lora", "lora below ia3"),
    *("a lokr's rank for each block", "lora with principal singular vectors each block"),
)
CASES = [
    pytest.param(adapter, id=name, marks=[] if name in SHOWN else pytest.mark.slow)
    for name, adapter in PAIRS.items()
]
"""The same as cases of tests; the quick suite has those that are shown."""
