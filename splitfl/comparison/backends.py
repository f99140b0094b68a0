"""Where the runs of a comparison are executed, by the name that `--on` takes."""

from collections.abc import Callable, Mapping
from typing import Final

from splitfl.cluster.ray_cluster import LOCAL
from splitfl.comparison.process_pool import ProcessPool
from splitfl.comparison.ray_backend import RayBackend
from splitfl.comparison.runs import Backend
from splitfl.config import one_of
from splitfl.core.errors import ConfigError


def backend_of(on: str, jobs: int | None) -> Backend:
    """The backend of `processes`, with `jobs` of them (default: 1), or of `ray[:ADDRESS]`.

    Raises ConfigError for an unknown name, for `jobs` or an address that the backend does not have, and for a
    library that is not installed.
    """
    name, _, address = on.partition(":")
    one_of("on", name, tuple(_BACKENDS))
    return _BACKENDS[name](address, jobs)


def _processes(address: str, jobs: int | None) -> ProcessPool:
    if address:
        raise ConfigError(f"on must be processes without an address, got 'processes:{address}'")
    return ProcessPool(1 if jobs is None else jobs)


def _ray(address: str, jobs: int | None) -> RayBackend:
    if jobs:
        raise ConfigError(f"jobs counts processes of this machine; Ray runs as many as have CPUs, got {jobs}")
    return RayBackend.at(address or LOCAL)


_BACKENDS: Final[Mapping[str, Callable[[str, int | None], Backend]]] = {"processes": _processes, "ray": _ray}
