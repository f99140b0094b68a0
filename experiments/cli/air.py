"""`splitfl channel air`: any radio programs over the emulated channel, sample by sample."""

import click

from experiments.cli.exits import reports_errors


@click.command()
@click.argument("scenario")
@click.option("--nodes", type=click.IntRange(min=2), help="Base station and users (default: the scenario's).")
@click.option("--users", type=click.IntRange(min=1), help="Only the first users of the scenario.")
@click.option("--rate", "rate_hz", type=float, default=1.92e6, show_default=True, help="Samples per second.")
@click.option("--port", type=int, default=2000, show_default=True, help="Of node 0; 2 ports for each node.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--node-host",
    "node_hosts",
    multiple=True,
    metavar="NODE=ADDRESS",
    help="Where a node's transmitter is, if not on this machine; may be repeated.",
)
@click.option("--print", "program", type=click.Choice(["srsran", "gnuradio"]), help="Print what nodes need.")
@click.option(
    "--pace",
    type=click.Choice(["real", "free"]),
    default="real",
    show_default=True,
    help="No faster than the rate, or as fast as the nodes are.",
)
@click.option("--timeout", "timeout_s", type=float, default=1.0, show_default=True, help="Seconds to wait.")
@click.option(
    "--format",
    "sample_format",
    type=click.Choice(["fc32", "sc16"]),
    default="fc32",
    show_default=True,
    help="Samples as pairs of 32-bit floats, or of 16-bit integers (x 32767).",
)
@click.option("--seconds", type=float, help="Seconds of samples to serve (default: until interrupted).")
@click.option("--hold", "hold_s", type=float, help="Seconds that gains are held (Colosseum: 0.001).")
@click.option("--leak", "leak_db", type=float, help="The loss in dB with which a node hears itself.")
@click.option("--guard", type=int, default=64, show_default=True, help="The largest delay, in samples.")
@click.option(
    "--front-end",
    "impairments",
    multiple=True,
    metavar="NODE.KEY=VALUE",
    help="An impairment, as in 1.cfo_hz=200; * for all nodes; may be repeated.",
)
@click.option("--seed", type=int, help="Random seed (default: the scenario's).")
@reports_errors
def air(
    scenario: str,
    nodes: int | None,
    users: int | None,
    rate_hz: float,
    port: int,
    host: str,
    node_hosts: tuple[str, ...],
    program: str | None,
    pace: str,
    timeout_s: float,
    sample_format: str,
    seconds: float | None,
    hold_s: float | None,
    leak_db: float | None,
    guard: int,
    impairments: tuple[str, ...],
    seed: int | None,
) -> None:
    """Serve a scenario's channel to radio programs that exchange samples over ZMQ (srsRAN, GNU Radio).

    Node 0 is the base station. Node K sends samples at PORT + 2 K and receives at PORT + 2 K + 1.
    Ends with a table of what went through, when interrupted.
    """
    from experiments.channel import air as channel_air

    chosen = channel_air.chosen_scenario(scenario, nodes=nodes, users=users, seed=seed)
    channel_air.serve(
        chosen,
        channel_air.ports(
            port,
            host,
            node_hosts,
            timeout_s,
            is_real_time=pace == "real",
            sample_format=sample_format,
        ),
        rate_hz=rate_hz,
        front_ends=channel_air.front_ends(chosen.place.users + 1, impairments),
        hold_s=hold_s,
        leak_db=leak_db,
        guard=guard,
        program=program,
        seconds=seconds,
    )
