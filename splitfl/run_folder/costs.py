"""What each round of a run cost, summed over all clients."""

from collections import defaultdict

from splitfl.run_folder.events import RunEvents


def costs_by_round(events: RunEvents) -> dict[str, list[float]]:
    """Columns with an entry for each round that ended, `round` among them.

    Bytes and energy are those of the link, both directions; messages after the last round count with it.
    """
    rounds = [row.round for row in events.rounds]
    names = ("bytes_up", "bytes_down", "packets", "retransmissions", "airtime_s", "energy_j")
    columns: dict[str, dict[int, float]] = {
        name: defaultdict(int) for name in (*names, "client_flops", "server_flops")
    }
    last = max(rounds, default=0)
    for transfer in events.transfers:
        at = min(transfer.round, last)
        columns[f"bytes_{transfer.direction}"][at] += transfer.payload_bytes
        for name in ("packets", "retransmissions", "airtime_s", "energy_j"):
            columns[name][at] += getattr(transfer, name)
    for compute in events.computes:
        columns[f"{compute.side}_flops"][min(compute.round, last)] += compute.flops
    counted = {name: [by[at] for at in rounds] for name, by in columns.items()}
    return {"round": list(rounds), **counted}
