"""Parameters of tests of which `make test` runs a selection."""

from collections.abc import Iterable
from typing import Any

import pytest

SLOW = [pytest.mark.slow]


def quick(values: Iterable[Any], *chosen: Any) -> list[Any]:
    """All values as parameters, marked slow but for the chosen ones; tuples are several arguments."""
    return [
        pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=[] if one in chosen else SLOW)
        for one in values
    ]
