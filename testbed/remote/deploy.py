"""Puts a deployment on all nodes, in steps that may each be repeated and killed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from splitfl.core.errors import SplitflError
from splitfl.core.json_text import dumps
from splitfl.transport.base.addresses import parse_address
from splitfl.transport.security.certificates import make_certificates
from testbed.inventory.nodes import CLIENT, SERVER, Inventory
from testbed.remote import ssh
from testbed.remote.deployment import Deployment, DeploymentFolder
from testbed.remote.fleet import Fleet, NodeConnection
from testbed.remote.programs import has_secrets

Say = Callable[[str, str], None]
"""Receives a node's name and what was done there."""

_INSTALL_S: Final = 1800.0
_DAYS: Final = 30


def deploy(
    fleet: Fleet, inventory: Inventory, deployment: Deployment, session: DeploymentFolder, say: Say
) -> None:
    """Deploys to every node, all in parallel, then keeps the deployment in the session.

    Raises NodesFailed, node by node; those that succeeded stay deployed.
    """
    fleet.need_all()
    if has_secrets(deployment):
        _make_secrets(inventory, deployment, session)
    session.keep_nodes(inventory.members)
    settings = session.settings / f"{deployment.name}.json"
    settings.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    session.write(deployment)
    settings.write_text(dumps(dict(deployment.settings), indent=1), encoding="utf-8")

    fleet.all("not deployed", lambda link: _to_node(link, inventory, deployment, session, say))


def lacking_packages(fleet: Fleet) -> dict[str, SplitflError]:
    """The nodes whose Python lacks packages that no wheelhouse brings, each with a sentence."""
    found = fleet.each(lambda link: None if link.node.wheelhouse else link.ask("packages"))
    return {name: one for name, one in found.items() if isinstance(one, SplitflError)}


def _to_node(
    link: NodeConnection, inventory: Inventory, deployment: Deployment, session: DeploymentFolder, say: Say
) -> None:
    node = link.node
    number = inventory.clients.index(node) if node.role == CLIENT else None
    target = f"{node.folder}/{deployment.folder}"
    link.work("prepare", version=deployment.version, node=node.name)
    say(node.name, "folder")
    files = [Path(deployment.wheel)]
    if node.role == SERVER:
        files.append(session.settings / f"{deployment.name}.json")
    ssh.push(node, files, target)
    say(node.name, "wheel and settings")
    if has_secrets(deployment):
        ssh.push(node, _own_secrets(session, number), f"{target}/secrets")
        say(node.name, "secrets")
    for what, source in (("model", deployment.model), ("data", deployment.data if not node.data else "")):
        if source:
            path = Path(source)
            ssh.push(node, [path], f"{target}/{what}", exactly=path.is_dir())
            say(node.name, what)
    if node.wheelhouse:
        ssh.push(node, [Path(node.wheelhouse)], f"{node.folder}/wheelhouse", exactly=True)
        say(node.name, "wheelhouse")
    installed = link.work(
        "install",
        _INSTALL_S,
        version=deployment.version,
        wheel=Path(deployment.wheel).name,
        wheelhouse=bool(node.wheelhouse),
    )
    say(node.name, "packages")
    facts: dict[str, Any] = {"role": node.role, "client": number, "versions": installed["versions"]}
    link.work("activate", version=deployment.version, facts=facts)
    say(node.name, f"deployed {deployment.version}")


def _make_secrets(inventory: Inventory, deployment: Deployment, session: DeploymentFolder) -> None:
    """Makes certificates and tokens unless the session has them for this server."""
    made_for = session.secrets / "hosts.txt"
    routes = (
        parse_address(deployment.route(node))[0]
        for client, node in enumerate(inventory.clients)
        if deployment.transport_of(client) != "mqtt"  # which leads to the broker
    )
    hosts = sorted({inventory.server.address, deployment.host, *routes})
    text = "\n".join([*hosts, str(len(inventory.clients))])
    if made_for.exists() and made_for.read_text(encoding="utf-8") == text:
        return
    session.forget_secrets()
    make_certificates(session.secrets, len(inventory.clients), hosts, _DAYS)
    made_for.write_text(text, encoding="utf-8")  # last: without it they are made again


def _own_secrets(session: DeploymentFolder, number: int | None) -> Sequence[Path]:
    own = "server" if number is None else f"client-{number}"
    kinds = ("crt", "key", "tokens" if number is None else "token")
    return [session.secrets / "ca.crt", *(session.secrets / f"{own}.{kind}" for kind in kinds)]
