"""Which client owns which examples."""

import numpy as np

from channel.core.rng import stream
from splitfl.config import above, at_least, one_of
from splitfl.core.errors import ConfigError
from splitfl.data.examples import Examples, Ints
from splitfl.data.pictures import Pictures


def share(
    examples: Examples | Pictures, clients: int, how: str, dirichlet_alpha: float = 0.5, seed: int = 0
) -> list[Ints]:
    """The indices that each client owns, ascending; every example has exactly one owner.

    `natural` gives whole groups to clients, `iid` deals shuffled examples evenly,
    `dirichlet` deals evenly too but each client draws classes in proportions of its own.
    Raises ConfigError where a client would be left with nothing.
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


def _natural(examples: Examples | Pictures, clients: int) -> list[Ints]:
    """Largest group first, each to the client that has least (Graham, 1969): no draw, nearly even."""
    names, group_of, sizes = np.unique(np.array(examples.groups), return_inverse=True, return_counts=True)
    if len(names) < clients:
        raise ConfigError(
            f"federation.partition 'natural' gives whole groups to clients and these data have {len(names)} "
            f"for {clients} clients; name the column of groups in task.group_column (usually 'group'), take "
            "fewer clients, or partition iid or dirichlet"
        )
    owner = np.empty(len(names), dtype=np.int64)
    held = np.zeros(clients, dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        owner[group] = np.argmin(held)
        held[owner[group]] += sizes[group]
    return [np.flatnonzero(owner[group_of] == client) for client in range(clients)]


def _classes(examples: Examples | Pictures) -> Ints:
    """What a Dirichlet partition is uneven in: the labels, or the groups where there are none."""
    if examples.labels is not None and examples.labels.dtype.kind == "i":
        return examples.labels.astype(np.int64)
    names, numbers = np.unique(np.array(examples.groups), return_inverse=True)
    if len(names) < 2:
        raise ConfigError(
            "federation.partition 'dirichlet' draws classes unevenly and these data have neither classes "
            "nor groups; partition iid"
        )
    return numbers.astype(np.int64)


def _dirichlet(classes: Ints, clients: int, alpha: float, rng: np.random.Generator) -> list[Ints]:
    """Client k draws proportions q_k ~ Dir(alpha p), p those of the whole (Hsu et al., 2019, section 2.1).

    All clients are equally large, so none is ever empty. A class that has run out is
    left to the others in q_k; where q_k names none that is left, p decides.
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
    """How many of each class `size` draws with these proportions take, at most those left."""
    taken = np.zeros_like(left)
    while (missing := size - int(taken.sum())) > 0:
        available = left - taken
        wish = np.where(available > 0, proportions, 0.0)
        if not wish.sum() > 0.0:  # also where alpha is so small that the proportions are not numbers
            wish = available / available.sum()
        taken += np.minimum(rng.multinomial(missing, wish / wish.sum()), available)
    return taken
