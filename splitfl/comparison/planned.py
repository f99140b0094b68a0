"""What a whole run will cost, by name."""

from splitfl.comparison.entrants import Entrant


def planned(entrant: Entrant) -> dict[str, float]:
    """Every figure of a dry run; sums over all clients where a name does not say otherwise."""
    rehearsal, federation = entrant.plan.rehearsal, entrant.config.federation
    up, down, both = (rehearsal.ledger.total(way) for way in ("up", "down", None))
    shares = federation.clients * federation.rounds
    return {
        "rounds": federation.rounds,
        "bytes_up": up.payload_bytes,
        "bytes_down": down.payload_bytes,
        "bytes_up_a_client_and_round": up.payload_bytes / shares,
        "bytes_down_a_client_and_round": down.payload_bytes / shares,
        "packets": both.packets,
        "airtime_s": both.airtime_s,
        "radiated_j": both.energy_j,
        "virtual_s": rehearsal.virtual_s,
        "client_flops": rehearsal.ledger.total_flops("client"),
        "server_flops": rehearsal.ledger.total_flops("server"),
        "client_parameter_bytes": rehearsal.client.parameter_bytes,
        "client_gradient_bytes": rehearsal.client.gradient_bytes,
        "client_optimiser_bytes": rehearsal.client.optimiser_bytes,
        "client_saved_bytes": rehearsal.client.saved_bytes,
        "client_memory_bytes": rehearsal.client.total_bytes,
    }
