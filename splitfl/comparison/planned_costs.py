"""The costs of a whole run, by name."""

from splitfl.comparison.entrants import Entrant


def planned_costs(entrant: Entrant) -> dict[str, float]:
    """All costs of an entrant's dry run; sums over all clients unless the name says otherwise."""
    dry_run, federation = entrant.plan.dry_run, entrant.config.federation
    up, down, both = (dry_run.ledger.total(direction) for direction in ("up", "down", None))
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
        "virtual_s": dry_run.virtual_s,
        "client_flops": dry_run.ledger.total_flops("client"),
        "server_flops": dry_run.ledger.total_flops("server"),
        "client_parameter_bytes": dry_run.client.parameter_bytes,
        "client_gradient_bytes": dry_run.client.gradient_bytes,
        "client_optimiser_bytes": dry_run.client.optimiser_bytes,
        "client_saved_bytes": dry_run.client.saved_bytes,
        "client_codec_bytes": dry_run.client.codec_bytes,
        "client_memory_bytes": dry_run.client.total_bytes,
    }
