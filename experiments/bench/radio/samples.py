"""The radio at the level of samples: the modem, then the IQ channel."""

from collections.abc import Callable

from experiments.bench.radio.air import air
from experiments.bench.radio.modem import modem
from experiments.bench.ratio import Figure
from experiments.bench.setting import Setting


def samples(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """The figures of both. Raises NotHere if a package of the extra `radio` is missing."""
    return [*modem(setting, progress), *air(setting, progress)]
