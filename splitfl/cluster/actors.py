"""The processes of a Ray cluster that compute the clients of a run, and the loss of some of them."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from splitfl.cluster.client_actor import ClientActor
from splitfl.cluster.ray_cluster import Origin
from splitfl.core.errors import PeerLost, SplitflError
from splitfl.core.messages import CodecUse
from splitfl.wire.codec_meter import CodecMeter

_START_S: Final = 300.0
"""Maximum time in which an actor imports splitfl and reads the data."""
_CHECK_EVERY_S: Final = 10.0
_SILENT_S: Final = 1800.0
"""Maximum time between two answers of an actor that computes; then it counts as lost."""
_FETCH_S: Final = 300.0


class Actor:
    """An actor, the number of rounds that it computes, and the time of its last answer."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.load = 0
        self.answered_s = 0.0


class ActorLost(Exception):
    """An actor has ended, or does not answer; it is not used any more."""


class Actors:
    """The actors of a run; several threads may call them."""

    def __init__(self, ray: Any, handles: Iterable[Any]) -> None:
        self._ray = ray
        self._lock = threading.Lock()
        self._all = [Actor(handle) for handle in handles]

    def __len__(self) -> int:
        return len(self._all)

    def take(self) -> Actor:
        """The actor with the fewest rounds, which has one more until `release`; PeerLost if all are lost."""
        with self._lock:
            if not self._all:
                raise PeerLost("all processes of the Ray cluster that computed clients were lost")
            actor = min(self._all, key=lambda one: one.load)
            actor.load += 1
            return actor

    def release(self, actor: Actor) -> None:
        """A round of this actor is over."""
        with self._lock:
            actor.load -= 1

    def call(self, actor: Actor, method: str, *arguments: object) -> Any:
        """What a method of ClientActor returns. Raises what it raises, or ActorLost."""
        ray, began_s = self._ray, time.monotonic()
        try:
            answer = getattr(actor.handle, method).remote(*arguments)
            while not ray.wait([answer], timeout=_CHECK_EVERY_S)[0]:
                if time.monotonic() - max(began_s, actor.answered_s) > _SILENT_S:
                    raise self._lost(actor)
            actor.answered_s = time.monotonic()
            return ray.get(answer, timeout=_FETCH_S)
        except ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        except ray.exceptions.RayError:
            raise self._lost(actor) from None

    def measured(self, meter: CodecMeter, uses: Sequence[CodecUse]) -> None:
        """Adds what an actor measured of codecs."""
        with self._lock:
            meter.add(uses)

    def close(self) -> None:
        """Ends all actors."""
        with self._lock:
            lost, self._all = self._all, []
        for actor in lost:
            self._ray.kill(actor.handle)

    def _lost(self, actor: Actor) -> ActorLost:
        with self._lock:
            is_new = actor in self._all
            if is_new:
                self._all.remove(actor)
        if is_new:
            self._ray.kill(actor.handle)
        return ActorLost()


def started(ray: Any, count: int, need: Mapping[str, int], settings: str, origin: Origin) -> Actors:
    """Up to `count` actors of a run, as many as the cluster starts with the CPUs and GPUs that each needs.

    Raises PeerLost if there are none within the time, and what `ClientActor.prepare` raises.
    """
    kind = ray.remote(num_cpus=need["CPU"], num_gpus=need["GPU"])(ClientActor)
    handles = [kind.remote() for _ in range(count)]
    asked = {one.prepare.remote(settings, origin): one for one in handles}
    done, late = ray.wait(list(asked), num_returns=count, timeout=_START_S)
    for one in late:
        ray.kill(asked[one])
    ready = []
    for one in done:
        try:
            ray.get(one, timeout=_FETCH_S)
        except ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        except ray.exceptions.RayError:
            continue
        ready.append(asked[one])
    if not ready:
        raise PeerLost(f"the Ray cluster started none of {count} processes for clients within {_START_S:g} s")
    return Actors(ray, ready)


def _cause(error: Any) -> Exception:
    """The error of splitfl that was raised in an actor, or Ray's own for a bug."""
    cause = error.cause
    return cause if isinstance(cause, SplitflError) else error
