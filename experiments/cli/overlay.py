"""`splitfl testbed overlay`: slow imports are inside the commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from experiments.cli.exits import reports_errors

_SECRETS = click.option(
    "--secrets",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder from `splitfl certs`, for all of the files below.",
)


@click.group()
def overlay() -> None:
    """Tunnel IP over one outbound TLS connection per machine, for unmodified PyTorch RPC.

    Only the hub must be reachable, on one port. Certificates are PEM files (see `splitfl certs`);
    token files must be readable by their owner only.
    """


@overlay.command()
@click.option("--listen", required=True, metavar="HOST:PORT", help="The address to listen on.")
@click.option("--network", default="10.99.0.0/24", show_default=True, help="The overlay's IP network.")
@_SECRETS
@click.option("--tls-cert", default="", metavar="PATH", help="The hub's certificate.")
@click.option("--tls-key", default="", metavar="PATH", help="The key of that certificate.")
@click.option(
    "--tls-ca", default="", metavar="PATH", help="Accept only clients with a certificate of this CA."
)
@click.option(
    "--token-file", default="", metavar="PATH", help="Accept only clients with a token in this file."
)
@click.option("--mtu", type=int, default=16384, show_default=True, help="Maximum packet size in bytes.")
@reports_errors
def hub(
    listen: str,
    network: str,
    secrets: Path | None,
    tls_cert: str,
    tls_key: str,
    tls_ca: str,
    token_file: str,
    mtu: int,
) -> None:
    """Run the overlay's hub; it has the network's first address."""
    from splitfl.transport.security.credentials import Credentials
    from testbed.overlay.endpoints import listener_at, network_of
    from testbed.overlay.hub import Hub
    from testbed.overlay.tls import HubTokens, server_context

    files = Credentials(cert=tls_cert, key=tls_key, ca=tls_ca, token_file=token_file)
    files = files.or_in_folder(secrets, "server") if secrets else files
    tokens = HubTokens(files.token_file) if files.token_file else None
    context = server_context(files.cert, files.key, files.ca)
    with listener_at(listen) as listener, _until_interrupted():
        Hub(listener, network_of(network), context, tokens, mtu, _log).run()


@overlay.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--name", help="This client's name: client-N with --secrets (default: the host name).")
@_SECRETS
@click.option("--tls-ca", default="", metavar="PATH", help="CA certificate to verify the hub with.")
@click.option(
    "--tls-cert", default="", metavar="PATH", help="This client's certificate, if the hub requires one."
)
@click.option("--tls-key", default="", metavar="PATH", help="The key of that certificate.")
@click.option(
    "--token-file", default="", metavar="PATH", help="This client's token, if the hub requires one."
)
@click.option("--tls-name", help="The name in the hub's certificate, if not HOST.")
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=30.0,
    show_default=True,
    help="Timeout in seconds for reaching the hub.",
)
@reports_errors
def join(
    address: str,
    name: str | None,
    secrets: Path | None,
    tls_ca: str,
    tls_cert: str,
    tls_key: str,
    token_file: str,
    tls_name: str | None,
    timeout_s: float,
) -> None:
    """Join the overlay of the hub at HOST:PORT until interrupted."""
    import platform

    from splitfl.transport.base.addresses import parse_address
    from splitfl.transport.security.credentials import Credentials, read_token
    from testbed.overlay.join import Client
    from testbed.overlay.tls import client_context

    host, port = parse_address(address)
    client_name = name or platform.node()
    files = Credentials(cert=tls_cert, key=tls_key, ca=tls_ca, token_file=token_file)
    files = files.or_in_folder(secrets, client_name) if secrets else files
    token = read_token(files.token_file) if files.token_file else ""
    context = client_context(files.cert, files.key, files.ca)
    with _until_interrupted():
        Client(host, port, client_name, context, token, _log, tls_name).run(timeout_s)


@contextmanager
def _until_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _log("ended")


def _log(message: str) -> None:
    click.echo(f"overlay: {message}", err=True)
