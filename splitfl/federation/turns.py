"""The one order in which the server works, the same on every road.

A round has laps: in lap 0 every client says `begin`, in the last one it sends its work
in. In each lap between them the clients come in a random order drawn for that lap, as
SplitFed's second version has it (Thapa et al., AAAI'22, Algorithm 3).
"""

from channel.core.rng import stream


class Turns:
    """Positions of the messages of one round; built as the clients begin.

    A client's round has `steps + 2` laps where it sends its work in, else `steps + 1`.
    """

    def __init__(self, seed: int, round_index: int, clients: int, base: int) -> None:
        self.round_index = round_index
        self.base = base
        self._seed = seed
        self._clients = clients
        self._laps: dict[int, int] = {}
        self._positions: dict[tuple[int, int], int] = {}
        self._order: list[tuple[int, int]] = []

    def begin(self, client: int, laps: int) -> None:
        """This client begins a round of so many laps, the one it begins with included."""
        self._laps[client] = laps
        if len(self._laps) == self._clients:
            self._order = self.order()
            self._positions = {turn: self.base + self._clients + i for i, turn in enumerate(self._order)}

    def laps(self, client: int) -> int | None:
        """How many laps this client's round has; None until it has begun."""
        return self._laps.get(client)

    def position(self, client: int, lap: int) -> int | None:
        """Where this message stands in the whole run; None while that cannot be known yet."""
        return self.base + client if lap == 0 else self._positions.get((client, lap))

    def whose(self, position: int) -> int | None:
        """Whose message has this position; None while that cannot be known yet."""
        place = position - self.base
        if place < self._clients:
            return place
        place -= self._clients
        return self._order[place][0] if place < len(self._order) else None

    def order(self) -> list[tuple[int, int]]:
        """(client, lap) of every message after the beginnings, once all clients have begun."""
        laps = range(1, max(self._laps.values()))
        return [(client, lap) for lap in laps for client in self._drawn(lap)]

    @property
    def end(self) -> int | None:
        """The first position after this round; None while that cannot be known yet."""
        if len(self._laps) < self._clients:
            return None
        return self.base + sum(self._laps.values())

    def _drawn(self, lap: int) -> list[int]:
        order = stream(self._seed, "turns", self.round_index, lap).permutation(self._clients)
        return [int(client) for client in order if lap < self._laps[int(client)]]
