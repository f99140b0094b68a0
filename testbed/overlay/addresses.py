"""Address assignment in an overlay's network."""

import ipaddress


class Addresses:
    """Assigned addresses by name, for the lifetime of the hub, which has the first address itself."""

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self.network = network
        self.hub = network[1]
        self._of_name: dict[str, ipaddress.IPv4Address] = {}

    def of(self, name: str, wish: str) -> ipaddress.IPv4Address | None:
        """The assigned address, else `wish` if it is free, else the next free one; None if there is none."""
        if name not in self._of_name:
            taken = {self.hub, *self._of_name.values()}
            wished = next(
                (one for one in self.network.hosts() if str(one) == wish and one not in taken), None
            )
            free = wished or next((one for one in self.network.hosts() if one not in taken), None)
            if free is None:
                return None
            self._of_name[name] = free
        return self._of_name[name]
