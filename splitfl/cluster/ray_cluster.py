"""Connection to a Ray cluster, and the check of its nodes before they run anything.

Ray sends code and results between nodes as pickles, so whoever reaches a cluster can run anything on it: all
its nodes must belong to one institution, and token authentication is required.
"""

import importlib
import os
import platform
import socket
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

from splitfl.cluster.node_state import NamedFile, differences, state
from splitfl.core.errors import ConfigError, PeerLost, Timeout
from splitfl.core.extras import optional
from splitfl.transport.base.addresses import parse_address

LOCAL: Final = "local"
AUTO: Final = "auto"
_ENVIRONMENT: Final = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
"""Unless the environment says otherwise; Ray reads it when it is imported."""
_ONE_ATTEMPT: Final = {"RAY_gcs_server_port_wait_time_s": "1"}
"""The number of attempts to connect, of about 40 s each; by default 20."""
_CONNECT_S: Final = 10.0
_CHECK_S: Final = 300.0
"""Maximum time in which a node imports splitfl and reads the files of the settings."""
REMEDY: Final = "every node must have the same code, versions and files"


def imported(address: str) -> Any:
    """The module `ray`. Raises ConfigError without it, without token authentication or for a bad address."""
    if address not in (LOCAL, AUTO):
        parse_address(address, name="the address of a Ray cluster, unless auto,")
    for name, value in (_ENVIRONMENT | ({} if address == LOCAL else _ONE_ATTEMPT)).items():
        os.environ.setdefault(name, value)
    if (mode := os.environ["RAY_AUTH_MODE"]) != "token":
        raise ConfigError(f"RAY_AUTH_MODE must be token: a Ray cluster runs what it is sent; got {mode!r}")
    return optional("ray", "--on ray needs Ray", "ray")


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """Connects this process to the cluster, or starts one on this machine; ends all tasks afterwards.

    A process that is connected already stays so. Raises PeerLost for a cluster that cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    if address not in (LOCAL, AUTO):
        check_reachable(address)
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises many unrelated types
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "does it run, and has this machine its token?"
        raise PeerLost(f"no connection to the Ray cluster {address}: {reason}; {hint}") from None
    try:
        with redirect_stdout(sys.stderr):  # where Ray's notes on lost nodes belong
            yield
    finally:
        ray.shutdown()


def nodes(ray: Any) -> list[Mapping[str, Any]]:
    """The nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def lack_of_room(found: Sequence[Mapping[str, Any]], needs: Mapping[str, int]) -> str:
    """A sentence if no node has the CPUs and GPUs that a run needs, else empty."""
    if any(all(node["Resources"].get(name, 0) >= least for name, least in needs.items()) for node in found):
        return ""
    wanted = " and ".join(f"{least} {name}" for name, least in needs.items() if least)
    rooms = [
        f"{name_of(node)} {node['Resources'].get('CPU', 0):g} CPU, {node['Resources'].get('GPU', 0):g} GPU"
        for node in found
    ]
    return f"no node of the Ray cluster has the {wanted} of a run; the nodes: {'; '.join(rooms) or 'none'}"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The state of the driver, which the `checked` nodes have as well, and the files in it."""

    state: Mapping[str, str]
    files: Collection[NamedFile]
    checked: Collection[str]

    def difference_here(self) -> str:
        """On a node: how it differs from the driver, if it joined after the check; else empty."""
        node = importlib.import_module("ray").get_runtime_context().get_node_id()
        different = "" if node in self.checked else differences(self.state, state(self.files))
        if not different:
            return ""
        return f"the Ray node {platform.node()} differs from the driver's: {different}; {REMEDY}"


def gpus_of(devices: Collection[str], has_gpus: bool) -> int:
    """As many GPUs as the indices of these torch devices need; `auto` is a GPU if the cluster `has_gpus`."""
    cuda = [device for device in devices if device.startswith("cuda") or (device == "auto" and has_gpus)]
    return max((int(device.partition(":")[2] or 0) for device in cuda), default=-1) + 1


def check_nodes(ray: Any, found: Sequence[Mapping[str, Any]], files: Collection[NamedFile]) -> Origin:
    """Compares the code, versions and `files` of every node with those of this process.

    Raises ConfigError that names the node and what differs, Timeout for a node that does not answer.
    """
    task = ray.remote(num_cpus=0, max_retries=1)(state)
    asked = {task.options(scheduling_strategy=_only(node)).remote(files): name_of(node) for node in found}
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_CHECK_S)
    if late:
        names = ", ".join(asked[one] for one in late)
        raise Timeout(f"no answer within {_CHECK_S:g} s from the Ray node {names}")
    here = state(files)
    for one in done:
        try:
            there = ray.get(one, timeout=_CHECK_S)
        except ray.exceptions.RayError as error:
            reason = next(reversed(str(error).strip().splitlines()), type(error).__name__)
            raise ConfigError(f"the Ray node {asked[one]} cannot run splitfl: {reason}; {REMEDY}") from None
        if different := differences(here, there):
            raise ConfigError(f"the Ray node {asked[one]} differs from this process: {different}; {REMEDY}")
    return Origin(state=here, files=files, checked={node["NodeID"] for node in found})


def name_of(node: Mapping[str, Any]) -> str:
    """The node's name for messages: that of `ray start --node-name`, by default its address."""
    return str(node["NodeName"])


def _only(node: Mapping[str, Any]) -> Any:
    """The scheduling strategy of a task that runs on this node or fails."""
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def check_reachable(address: str) -> None:
    """Raises PeerLost if nothing listens at this address."""
    try:
        socket.create_connection(parse_address(address), timeout=_CONNECT_S).close()
    except OSError as error:
        raise PeerLost(f"no Ray cluster answers at {address}: {error.strerror or error}") from None
