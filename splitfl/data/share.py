"""Partition of the examples over clients."""

import numpy as np

from channel.core.rng import stream
from splitfl.config import above, at_least, one_of
from splitfl.core.errors import ConfigError
from splitfl.data.examples import Ints
from splitfl.data.samples import Samples


def share(
    examples: Samples, clients: int, how: str, dirichlet_alpha: float = 0.5, seed: int = 0
) -> list[Ints]:
    """The sorted indices of each client's examples; every example belongs to exactly one client.

    `natural` assigns whole groups to clients, `iid` shuffled examples in equal numbers,
    `dirichlet` equal numbers with class proportions drawn per client.
    Raises ConfigError if a client would have no examples.
    """
    at_least("federation.clients", clients, 1)
    one_of("federation.partition", how, ("natural", "iid", "dirichlet"))
    if clients > len(examples):
        raise ConfigError(f"federation.clients must be at most the {len(examples)} samples, got {clients}")
    if how == "natural":
        return _natural(examples, clients)
    rng = stream(seed, "share", how)
    if how == "iid":
        order = rng.permutation(len(examples))
        return [np.sort(part) for part in np.array_split(order, clients)]
    above("federation.dirichlet_alpha", dirichlet_alpha, 0.0)
    return _dirichlet(_classes(examples), clients, dirichlet_alpha, rng)


def _natural(examples: Samples, clients: int) -> list[Ints]:
    """Largest group first, each to the client with the fewest examples (Graham, 1969); deterministic."""
    names, group_of, sizes = np.unique(np.array(examples.groups), return_inverse=True, return_counts=True)
    if len(names) < clients:
        raise ConfigError(
            f"federation.partition 'natural' assigns whole groups to clients; these data have {len(names)} "
            f"for {clients} clients; set the column of groups in task.group_column (usually 'group'), use "
            "fewer clients, or partition iid or dirichlet"
        )
    owner = np.empty(len(names), dtype=np.int64)
    held = np.zeros(clients, dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        owner[group] = np.argmin(held)
        held[owner[group]] += sizes[group]
    return [np.flatnonzero(owner[group_of] == client) for client in range(clients)]


def _classes(examples: Samples) -> Ints:
    """The classes of a Dirichlet partition: the class labels, or else the groups."""
    if examples.labels is not None and examples.labels.dtype.kind == "i":
        return examples.labels.astype(np.int64)
    names, numbers = np.unique(np.array(examples.groups), return_inverse=True)
    if len(names) < 2:
        raise ConfigError(
            "federation.partition 'dirichlet' needs class labels or groups and these data have neither; "
            "partition iid"
        )
    return numbers.astype(np.int64)


def _dirichlet(classes: Ints, clients: int, alpha: float, rng: np.random.Generator) -> list[Ints]:
    """Client k has proportions q_k ~ Dir(alpha p), p those of all data (Hsu et al., 2019, section 2.1).

    All clients have equally many examples, so none is empty. Once a class is exhausted, the remaining
    classes are drawn by q_k; if q_k is 0 for all of them, by p.
    """
    names, counts = np.unique(classes, return_counts=True)
    pools = [rng.permutation(np.flatnonzero(classes == name)) for name in names]
    left = counts.copy()
    shares = []
    for part in np.array_split(np.arange(len(classes)), clients):
        taken = _draw(rng.dirichlet(alpha * counts / len(classes)), left, len(part), rng)
        pieces = [pool[n - t : n] for pool, n, t in zip(pools, left, taken, strict=True)]
        shares.append(np.sort(np.concatenate(pieces)))
        left -= taken
    return shares


def _draw(proportions: np.ndarray, left: Ints, size: int, rng: np.random.Generator) -> Ints:
    """The number of examples per class in `size` draws with these proportions, at most those left."""
    taken = np.zeros_like(left)
    while (missing := size - int(taken.sum())) > 0:
        available = left - taken
        wish = np.where(available > 0, proportions, 0.0)
        if not wish.sum() > 0.0:  # also if a tiny alpha makes the proportions NaN
            wish = available / available.sum()
        taken += np.minimum(rng.multinomial(missing, wish / wish.sum()), available)
    return taken
