"""`splitfl join`; slow imports are inside the command."""

from pathlib import Path

import click

from experiments.cli.exits import reports_errors
from experiments.cli.imports import without_collections
from experiments.cli.options import MESSAGE_TIMES


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--client", type=click.IntRange(min=0), required=True, help="This client's index, from 0.")
@click.option(
    "name",
    "--transport",
    default="rpc",
    show_default=True,
    help="One of `splitfl list transports`; for mqtt, HOST:PORT/TOPIC is the broker's.",
)
@click.option("--secrets", metavar="DIR", help="A folder from `splitfl certs`, for all of the files below.")
@click.option("--token-file", default="", metavar="PATH", help="The file with this client's token.")
@click.option("--tls-ca", default="", metavar="PATH", help="CA certificate to verify the server with.")
@click.option("--tls-cert", default="", metavar="PATH", help="This client's own certificate ...")
@click.option("--tls-key", default="", metavar="PATH", help="... and its key.")
@click.option("--user", default="", help="This client's user name at the broker.")
@click.option("--password-file", default="", metavar="PATH", help="The file with the broker's password.")
@click.option("--model", help="The model's path or name on this machine (default: the server's).")
@click.option("--device", help="auto, cpu or cuda[:N] (default: the experiment's).")
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=30.0,
    show_default=True,
    help="Timeout in seconds for reaching the server.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for this client's checkpoints, to rejoin after a crash.",
)
@click.option("--leave-after", type=int, metavar="ROUNDS", help="Leave the run after this many rounds ...")
@click.option("--rounds-away", type=int, metavar="ROUNDS", help="... and rejoin after this many more.")
@click.option(
    "--data",
    metavar="PATH",
    help="This client's own data: a file, a folder, or hf:NAME; it trains on all its samples.",
)
@click.option(
    "--dealt",
    is_flag=True,
    help="--data is a copy of the server's data: partition it among clients as in the experiment.",
)
@MESSAGE_TIMES
@reports_errors
def join(
    address: str,
    client: int,
    name: str,
    secrets: str | None,
    token_file: str,
    tls_ca: str,
    tls_cert: str,
    tls_key: str,
    user: str,
    password_file: str,
    model: str | None,
    device: str | None,
    timeout_s: float,
    state: Path | None,
    leave_after: int | None,
    rounds_away: int | None,
    data: str | None,
    dealt: bool,
    message_times: Path | None,
) -> None:
    """Run one client of the experiment served at HOST:PORT.

    Over gRPC this machine opens outbound connections only, through an HTTP proxy if grpc_proxy or
    http_proxy is set.
    """
    from experiments.cli import preflight
    from splitfl.core.errors import ConfigError
    from splitfl.transport.base.spec import Joining
    from splitfl.transport.security.credentials import Credentials

    own = Credentials(cert=tls_cert, key=tls_key, ca=tls_ca, token_file=token_file)
    own = own if secrets is None else own.or_in_folder(Path(secrets), f"client-{client}")
    joining = Joining(
        address=address,
        client=client,
        timeout_s=timeout_s,
        credentials=own,
        user=user,
        password_file=password_file,
    )
    options = {"secrets": secrets, "tls_cert": tls_cert, "tls_key": tls_key, "tls_ca": tls_ca}
    options |= {"token_file": token_file, "user": user, "password_file": password_file}
    preflight.check_joining(name, joining, options)
    with without_collections():
        from experiments import commands

    if dealt and data is None:
        raise ConfigError("--dealt needs --data")
    if (leave_after is None) != (rounds_away is None):
        raise ConfigError("--leave-after and --rounds-away must be given together")
    leaves = {leave_after: rounds_away} if leave_after is not None and rounds_away is not None else {}
    commands.join(
        name,
        joining,
        model=model,
        device=device,
        data=data,
        is_dealt=dealt,
        state=state,
        leaves=leaves,
        message_times=message_times,
    )
