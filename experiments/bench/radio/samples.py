"""The radio at the level of samples: the modem, the IQ channel, and what bridges carry over both."""

from collections.abc import Callable

from experiments.bench.radio.air import air
from experiments.bench.radio.bridged import bridged
from experiments.bench.radio.modem import modem
from experiments.bench.ratio import Figure
from experiments.bench.setting import Setting


def samples(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """All figures. Raises NotHere if a package of the extra `radio` is missing."""
    return [*modem(setting, progress), *air(setting, progress), *bridged(setting, progress)]
