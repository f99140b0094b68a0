"""The service order of the messages of a round, the same on every transport.

A client's messages of a round are numbered by `lap`: message 0 is `begin`, the last one is its
update. For each index between them the clients are served in a random order, drawn per index, as
in SplitFedV2 (Thapa et al., AAAI'22, Algorithm 3).
"""

from channel.core.rng import stream


class Turns:
    """The positions of the messages of one round, known once all clients have begun.

    A client sends `steps + 2` messages if it uploads an update, else `steps + 1`.
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
        """Records that a client begins a round of `laps` messages, `begin` included."""
        self._laps[client] = laps
        if len(self._laps) == self._clients:
            self._order = self.order()
            self._positions = {turn: self.base + self._clients + i for i, turn in enumerate(self._order)}

    def laps(self, client: int) -> int | None:
        """The number of messages of this client's round; None until it has begun."""
        return self._laps.get(client)

    def position(self, client: int, lap: int) -> int | None:
        """The position of this message in the run; None until it is determined."""
        return self.base + client if lap == 0 else self._positions.get((client, lap))

    def whose(self, position: int) -> int | None:
        """The client whose message has this position; None until it is determined."""
        place = position - self.base
        if place < self._clients:
            return place
        place -= self._clients
        return self._order[place][0] if place < len(self._order) else None

    def order(self) -> list[tuple[int, int]]:
        """(client, lap) of every message after `begin`, once all clients have begun."""
        laps = range(1, max(self._laps.values()))
        return [(client, lap) for lap in laps for client in self._drawn(lap)]

    @property
    def end(self) -> int | None:
        """The first position after this round; None until it is determined."""
        if len(self._laps) < self._clients:
            return None
        return self.base + sum(self._laps.values())

    def _drawn(self, lap: int) -> list[int]:
        order = stream(self._seed, "turns", self.round_index, lap).permutation(self._clients)
        return [int(client) for client in order if lap < self._laps[int(client)]]
