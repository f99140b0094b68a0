"""The registries of all plug-ins by their plural, as `splitfl list` and the reference name them."""

from collections.abc import Mapping
from typing import Any, Final

from splitfl.adapters.registry import ADAPTERS
from splitfl.data.tasks import TASKS
from splitfl.federation.aggregators import AGGREGATORS
from splitfl.methods.registry import METHODS
from splitfl.privacy.registry import ATTACKS
from splitfl.setup.link_kinds import LINKS
from splitfl.tracking.registry import TRACKERS
from splitfl.transport.registry import TRANSPORTS
from splitfl.wire.codecs import CODECS

SPECIFICATIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "methods": METHODS,
    "adapters": ADAPTERS,
    "transports": TRANSPORTS,
    "tasks": TASKS,
    "codecs": CODECS,
    "links": LINKS,
    "trackers": TRACKERS,
    "aggregators": AGGREGATORS,
    "attacks": ATTACKS,
}
