"""Lets coverage guide the damage to frames and parcels, by atheris where it is installed.

    python -m tests.fuzz.guided -runs=1000000

What follows goes to libFuzzer as it is. Without atheris it says so and ends with code 0.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

_GUIDED: Final = ["splitfl.wire", "splitfl.transport.session.chunk", "splitfl.transport.session.inbox"]


def main() -> None:
    """See the module."""
    try:
        import atheris  # type: ignore[import-untyped]  # it is no dependency
    except ImportError:
        print("skipped: atheris is not installed here (pip install atheris)")
        return
    with atheris.instrument_imports(include=_GUIDED):
        from tests.fuzz.frames import foods
    everything = foods()

    def feed(raw: bytes) -> None:
        """Feeds these bytes to every reader; what comes out but a refusal ends the fuzzer."""
        for read in {food.read for food in everything}:
            try:
                read(raw)
            except everything[0].refuses_by:
                continue

    with tempfile.TemporaryDirectory(prefix="splitfl-fuzz-") as corpus:
        for number, food in enumerate(everything):
            (Path(corpus) / str(number)).write_bytes(food.good)
        atheris.Setup([*sys.argv, corpus], feed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
