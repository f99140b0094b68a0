"""Damages good bytes and feeds them to their readers, which may take them or refuse them, and no more."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Final

import psutil

_SLOW_S: Final = 1.0
_WARM_UP: Final = 2_000
_MOST_GROWTH_BYTES: Final = 64 << 20
_INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass(frozen=True, kw_only=True)
class Food:
    """Good bytes, who reads them, and by which errors that may refuse them.

    `values` stand in for what follows a line's `=`, where the bytes are a text of such lines.
    """

    good: bytes
    read: Callable[[bytes], object]
    refuses_by: tuple[type[Exception], ...]
    words: Sequence[bytes]
    values: Sequence[bytes] = ()


@dataclass(kw_only=True)
class Found:
    """What a run of the fuzzer has come to."""

    seed: int
    inputs: int = 0
    taken: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    grown_bytes: int = 0
    took_s: float = 0.0


class Broken(Exception):
    """Something was neither taken nor refused."""


def fuzz(foods: Sequence[Food], count: int, seed: int) -> Found:
    """Feeds so many; raises Broken for the first that does what none may do."""
    chance, found, began_s = Random(seed), Found(seed=seed), time.perf_counter()
    process, before_bytes = psutil.Process(), 0
    while found.inputs < count:
        if found.inputs == min(_WARM_UP, count // 2):
            before_bytes = process.memory_info().rss
        food = chance.choice(foods)
        is_retyped = food.values and chance.random() < 0.5
        bad = retyped(food, chance) if is_retyped else damaged(food, chance, chance.choice(foods).good)
        feed(bad, food, found)
    found.grown_bytes = max(0, process.memory_info().rss - before_bytes)
    found.took_s = time.perf_counter() - began_s
    if found.grown_bytes > _MOST_GROWTH_BYTES:
        raise Broken(f"memory grew by {found.grown_bytes} bytes")
    return found


def damaged(food: Food, chance: Random, other: bytes) -> bytes:
    """The good bytes with one to four things wrong with them, of which one may be a piece of others."""
    bad = bytearray(food.good)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(bad) + 1)
        match chance.randrange(8):
            case 0 if bad:
                bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            case 1 if bad:
                bad[chance.randrange(len(bad))] = chance.randrange(256)
            case 2:
                del bad[at:]
            case 3:
                del bad[at : at + chance.randint(1, 16)]
            case 4:
                bad[at:at] = chance.choice(food.words)
            case 5:
                bad[at : at + 8] = chance.choice(_INTERESTING).to_bytes(8, "little")
            case 6:
                bad[at:] = other[chance.randrange(len(other)) :]
            case _:
                bad[at:at] = bad[at : at + chance.randint(1, 64)]
    return bytes(bad)


def retyped(food: Food, chance: Random) -> bytes:
    """The good text with other values in one to three of its lines, or a line more."""
    lines = food.good.splitlines()
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        key, equals, _ = lines[at].partition(b"=")
        if equals:
            lines[at] = key + equals + b" " + chance.choice(food.values)
        else:
            lines.insert(at, chance.choice(lines))
    return b"\n".join(lines)


def feed(bad: bytes, food: Food, found: Found) -> None:
    """Feeds this; raises Broken unless it is taken or refused in time."""
    began_s = time.thread_time()
    try:
        food.read(bad)
        found.taken += 1
    except food.refuses_by:
        found.refused += 1
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error} for {bad.hex()}") from error
    took_s = time.thread_time() - began_s
    found.inputs += 1
    found.slowest_s = max(found.slowest_s, took_s)
    if took_s > _SLOW_S:
        raise Broken(f"it took {took_s:.1f} s to take {bad.hex()}")


def command(about: str, fuzzed: Callable[[int, int], Found], count: int) -> None:
    """The command line of a fuzzer: prints what it found as JSON, or ends with 1 and what broke."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    try:
        print(json.dumps(asdict(fuzzed(asked.count, asked.seed))))
    except Broken as error:
        print(error, file=sys.stderr)
        sys.exit(1)
