"""The registry of adapter kinds; one module each."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from splitfl.adapters.dora import DORA
from splitfl.adapters.full import FULL
from splitfl.adapters.ia3 import IA3
from splitfl.adapters.kind import AdapterKind
from splitfl.adapters.loha import LOHA
from splitfl.adapters.lokr import LOKR
from splitfl.adapters.lora import LORA
from splitfl.adapters.oft import OFT
from splitfl.adapters.tinylora import TINYLORA
from splitfl.adapters.vera import VERA
from splitfl.config import AdapterConfig, SideConfig, chosen, one_of, value_of
from splitfl.core.errors import ConfigError
from splitfl.core.registry import Registry

ADAPTERS: Final = Registry(
    "splitfl.adapters",
    AdapterKind,
    {
        "lora": LORA,
        "dora": DORA,
        "vera": VERA,
        "ia3": IA3,
        "tinylora": TINYLORA,
        "loha": LOHA,
        "lokr": LOKR,
        "oft": OFT,
        "full": FULL,
    },
)

_VIRTUAL_TOKENS: Final = (
    "virtual tokens lengthen the sequence, and what crosses the cut, its mask and its labels have one "
    "position for each token of the data"
)
UNSUPPORTED: Final[Mapping[str, str]] = {
    "adalora": "it distributes one budget of ranks over all modules, of which each piece has only its own",
    "prefix": "its keys and values are a cache of each block, and pieces are run without a cache",
    "prompt": _VIRTUAL_TOKENS,
    "p": _VIRTUAL_TOKENS,
    "pissa": "it is kind 'lora' with init = 'pissa'",
    "rslora": "it is kind 'lora' with use_rslora = true",
}
"""Why kinds of peft, without the ending `-tuning`, are no kinds here; plug-ins may have these names."""


def side_config(kind: str = SideConfig.kind, **values: Any) -> SideConfig:
    """A side of this kind with these values of its settings, others at their defaults."""
    return chosen(SideConfig, [kind_named(kind).settings], {"kind": kind, **values})


def side_rank(side: SideConfig) -> int:
    """The rank of a side's adapters, 0 for a kind without one."""
    return int(value_of(side, "rank") or 0)


def kind_named(name: str, setting: str = "adapter kind") -> AdapterKind:
    """The kind of this name. Raises ConfigError, with the nearest, for an unknown name."""
    if name not in ADAPTERS:
        refuse_kind(setting, name, ADAPTERS)
    return ADAPTERS[name]


def refuse_kind(setting: str, name: str, kinds: Iterable[str]) -> None:
    """Raises ConfigError for a name that none of these kinds has: the reason, or the nearest name."""
    plain = name.lower().replace("_", "-").removesuffix("-tuning")
    if reason := UNSUPPORTED.get(plain):
        raise ConfigError(f"{setting} cannot be {name!r}: {reason}; have {', '.join(sorted(kinds))}")
    one_of(setting, name, kinds)


def sides(adapter: AdapterConfig) -> Iterator[tuple[str, SideConfig]]:
    """`head` and `body`, each with its settings."""
    yield from (("head", adapter.head), ("body", adapter.body))


def trains_all(side: SideConfig) -> bool:
    """Whether this side is fully finetuned, without adapters."""
    return kind_named(side.kind).trains_all


def kind_of_tensor(name: str) -> tuple[AdapterKind, str] | None:
    """The kind of an adapter tensor, and the suffix of its name; None for other tensors."""
    for kind in ADAPTERS.values():
        for ending in kind.factors:
            if name.endswith(ending):
                return kind, ending
    return None


def module_of(name: str) -> str:
    """The adapted module of an adapter tensor; empty for other tensors."""
    found = kind_of_tensor(name)
    return name.removesuffix(found[1]) if found else ""


def role_of(name: str) -> str:
    """The role of an adapter tensor's factor; empty for other tensors."""
    found = kind_of_tensor(name)
    return found[0].factors[found[1]].role if found else ""
