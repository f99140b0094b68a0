"""Ends everything on the nodes and removes what was deployed."""

from splitfl.core.errors import SplitflError
from testbed.errors import NodesFailed
from testbed.remote import ssh
from testbed.remote.deployment import DeploymentFolder
from testbed.remote.fleet import Fleet, NodeConnection


def down(fleet: Fleet, session: DeploymentFolder, *, forget: bool = False) -> dict[str, bool]:
    """Ends all programs, removes the folders, closes the connections, and then forgets the session.

    Returns by node whether there was anything; nodes that cannot be reached are left out with `forget`.
    Raises NodesFailed for nodes that could not be cleaned; the session is kept for a repetition.
    """
    names = {node.name for node in fleet.nodes}

    def remove(link: NodeConnection) -> bool:
        return bool(link.work("remove", others=sorted(names - {link.node.name}))["removed"])

    found = fleet.each(remove)
    reasons = {} if forget else dict(fleet.unreachable)
    reasons |= {name: str(one) for name, one in found.items() if isinstance(one, SplitflError)}
    fleet.close()
    for node in fleet.nodes:
        ssh.disconnect(node)
    if reasons:
        what = "not cleaned; repeat `down` once they can be reached, or `down --forget` if they are gone"
        raise NodesFailed(what, reasons, len(fleet.nodes))
    session.forget()
    return {name: bool(one) for name, one in found.items()}
