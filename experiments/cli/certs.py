"""`splitfl certs`: certificates and tokens for a testbed."""

from pathlib import Path

import click

from experiments.cli.exits import reports_errors


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--clients", type=int, required=True, help="Number of clients, numbered from 0.")
@click.option(
    "hosts",
    "--host",
    multiple=True,
    default=("127.0.0.1", "localhost"),
    show_default=True,
    help="A host name or address of the server, as clients use it; may be repeated.",
)
@click.option("--days", type=int, default=365, show_default=True, help="Validity in days.")
@reports_errors
def certs(folder: Path, clients: int, hosts: tuple[str, ...], days: int) -> None:
    """Make a small CA, a server's and clients' certificates, and tokens, in the new folder DIR.

    The server needs ca.crt and server.*, client N needs ca.crt and client-N.*; every file is readable
    by its owner only. Then `splitfl serve PRESET --set transport.name=grpc --set transport.secrets=DIR`
    and `splitfl join HOST:PORT --transport grpc --secrets DIR --client N`.
    """
    from splitfl.transport.security.certificates import make_certificates

    for path in make_certificates(folder, clients, hosts, days):
        click.echo(path)
