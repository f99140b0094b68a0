"""Scenarios: TOML tables that describe a cell, parsed strictly.

Every table is a frozen dataclass; an unknown key is refused with the nearest known one.
"""

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from channel.core.errors import BadParameter
from channel.core.input_files import text_of
from channel.phy.device import Device
from channel.propagation.path_loss import CARRIER_HZ, ENVIRONMENTS
from channel.scenario.link_tables import LinksTable, TapsTable, taps_of_file
from channel.scenario.ranges import require_ranges
from channel.scenario.tables import (
    CarrierTable,
    FadingTable,
    JammerTable,
    LinkTable,
    NeighboursTable,
    PlaceTable,
    TrafficTable,
)

_LARGEST: Final = 1 << 1023  # whole numbers below it are floats too
MAX_USER_GROUPS: Final = 200_000
"""About 600 MB of SINRs."""
MAX_USER_WAVES: Final = 200_000
"""About 1.5 GB and ten seconds while fading is drawn."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A scenario file: its tables, a description `about` and the `sources` of its numbers.

    `duration_s` is the simulated time of a command that is not told another; every random quantity is drawn
    from `seed`.

    Raises BadParameter for values out of range, and for tables that exclude each other.
    """

    about: str = ""
    sources: tuple[str, ...] = ()
    duration_s: float = 1.0
    seed: int = 0
    place: PlaceTable = field(default_factory=PlaceTable)
    carrier: CarrierTable = field(default_factory=CarrierTable)
    fading: FadingTable = field(default_factory=FadingTable)
    link: LinkTable = field(default_factory=LinkTable)
    neighbours: NeighboursTable = field(default_factory=NeighboursTable)
    jammer: JammerTable = field(default_factory=JammerTable)
    traffic: TrafficTable = field(default_factory=TrafficTable)
    device: Device = field(default_factory=Device)
    links: LinksTable = field(default_factory=LinksTable)
    taps: TapsTable = field(default_factory=TapsTable)

    def __post_init__(self) -> None:
        require_ranges("", self)
        self._require_sizes()
        given = {"links": bool(self.links.loss_db), "taps": self.taps.is_given}
        for name, is_given in given.items():
            if is_given != (self.place.environment == name):
                had = "a table" if is_given else "no table"
                raise BadParameter(
                    f"[{name}] belongs to place.environment {name!r} only, "
                    f"got {had} with {self.place.environment!r}"
                )
        if any(given.values()):
            self._require_no_positions()

        self._require_consistent()

    def _require_sizes(self) -> None:
        """Refuses scenarios that would not fit into memory, before anything is allocated."""
        users = self.place.users
        for key, count, most in (
            ("carrier.groups", self.carrier.groups, MAX_USER_GROUPS),
            ("fading.waves", self.fading.waves, MAX_USER_WAVES),
        ):
            if users * count > most:
                raise BadParameter(
                    f"place.users times {key} must be at most {most}, got {users} times {count}"
                )

    def _require_consistent(self) -> None:
        """Constraints between tables."""
        low_hz, high_hz = CARRIER_HZ
        if self.place.environment in ENVIRONMENTS and not low_hz <= self.carrier.frequency_hz <= high_hz:
            raise BadParameter(
                f"carrier.frequency_hz must lie in [{low_hz:g}, {high_hz:g}] for {self.place.environment}, "
                f"got {self.carrier.frequency_hz:g}"
            )
        duty, period_s, slot_s = self.jammer.duty, self.jammer.period_s, self.carrier.slot_s
        shortest_s = period_s * min(duty, 1.0 - duty)
        if self.jammer.kind == "pulse" and 0.0 < shortest_s < slot_s * (1.0 - 1e-9):
            raise BadParameter(
                f"jammer.period_s and duty must leave pulses and pauses of at least a slot, {slot_s:g} s, "
                f"since SINR is sampled once per slot; got {shortest_s:g} s"
            )

    def _require_no_positions(self) -> None:
        """With prescribed links nothing may depend on a distance."""
        if self.neighbours.rings or self.jammer.kind:
            raise BadParameter("neighbours and jammer need distances; links and taps have none")
        if self.place.environment == "links" and self.place.users > self.links.users:
            raise BadParameter(
                f"users must be at most {self.links.users}, all nodes but one, got {self.place.users}"
            )
        if self.place.environment == "taps" and (self.fading.profile != "none" or self.place.speed_m_s):
            raise BadParameter("profile must be none and speed_m_s 0 with taps, which contain the fading")


TABLES: dict[str, type] = {
    "place": PlaceTable,
    "carrier": CarrierTable,
    "fading": FadingTable,
    "link": LinkTable,
    "neighbours": NeighboursTable,
    "jammer": JammerTable,
    "traffic": TrafficTable,
    "device": Device,
    "links": LinksTable,
    "taps": TapsTable,
}


def names() -> list[str]:
    """The names of the scenarios shipped with the package."""
    folder = files("channel.scenario")
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def load(name: str) -> Scenario:
    """A scenario by name, from a .toml path, or with defaults around the taps of a .mat or .npz file.

    Raises BadParameter for an unknown name, a missing file or invalid contents.
    """
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix in (".toml", ".mat", ".npz"):
        if not path.is_file():
            raise BadParameter(f"scenario must be an existing file, got {name!r}")
        return parse(text_of(path), path.parent) if suffix == ".toml" else _around(path)
    if name not in names():
        raise BadParameter(f"unknown scenario {name!r}{_nearest(name, names())}; have {', '.join(names())}")
    return parse(files("channel.scenario").joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def changed(scenario: Scenario, tables: Mapping[str, Mapping[str, Any]]) -> Scenario:
    """The scenario with the keys of some tables replaced; BadParameter for unknown ones and wrong types."""
    made = {}
    for name, values in tables.items():
        if name not in TABLES:
            raise BadParameter(
                f"unknown table {name!r}{_nearest(name, list(TABLES))}; have {', '.join(TABLES)}"
            )
        if not isinstance(values, Mapping):
            raise BadParameter(f"{name} must be a table, got {values!r}")
        made[name] = _filled(TABLES[name], {**vars(getattr(scenario, name)), **values}, f"{name}.")
    return replace(scenario, **made)


def _around(path: Path) -> Scenario:
    """A scenario with the taps of a file, as many users as the file has, and defaults otherwise."""
    taps = taps_of_file(path)
    return Scenario(
        about=f"the taps of {path.name}",
        duration_s=float(taps.time_s_T[-1]),
        place=PlaceTable(environment="taps", users=taps.users, shadowing=False),
        fading=FadingTable(profile="none"),
        taps=TapsTable(file=str(path)),
    )


def parse(text: str, folder: Path = Path()) -> Scenario:
    """A scenario from TOML text; its file paths are relative to `folder`.

    Raises BadParameter for invalid TOML, unknown keys, wrong types and values out of range.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadParameter(f"a scenario must be TOML: {error}") from error
    tables = {}
    for key in TABLES.keys() & document.keys():
        if not isinstance(document[key], dict):
            raise BadParameter(f"{key} must be a table, got {document[key]!r}")
        tables[key] = _filled(TABLES[key], document.pop(key), f"{key}.")
    if isinstance(found := tables.get("taps"), TapsTable) and found.file:
        tables["taps"] = TapsTable(file=str(folder / found.file))
    filled: Scenario = _filled(Scenario, {**document, **tables}, "")
    return filled


def _filled(kind: type, values: dict[str, Any], where: str) -> Any:
    known = {one.name: one for one in fields(kind)}
    for key in values:
        if key not in known:
            raise BadParameter(
                f"unknown key {where + key!r}{_nearest(key, list(known))}; have {', '.join(known)}"
            )
    return kind(**{key: _typed(where + key, known[key].type, got) for key, got in values.items()})


def _typed(name: str, kind: Any, got: Any) -> Any:
    """`got` after a type check, with ints converted to floats where needed and arrays to tuples."""
    got = _frozen(got)
    if kind is float and isinstance(got, int) and not isinstance(got, bool) and abs(got) < _LARGEST:
        return float(got)
    wanted = kind if isinstance(kind, type) and kind in (int, float, str, bool) else None
    if wanted is not None and type(got) is not wanted:
        raise BadParameter(f"{name} must be of type {wanted.__name__}, got {got!r}")
    if str(kind).startswith("tuple") and not isinstance(got, tuple):
        raise BadParameter(f"{name} must be an array, got {got!r}")
    if (lost := _not_finite(got)) is not None:
        what = "hold finite numbers" if isinstance(got, tuple) else "be a finite number"
        raise BadParameter(f"{name} must {what}, got {lost}")
    return got


def _not_finite(got: Any) -> float | None:
    """The first NaN or infinite number in `got`, or None."""
    if isinstance(got, tuple):
        return next((lost for one in got if (lost := _not_finite(one)) is not None), None)
    return got if isinstance(got, float) and not math.isfinite(got) else None


def _frozen(got: Any) -> Any:
    return tuple(_frozen(item) for item in got) if isinstance(got, list) else got


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
