"""Checks of a single machine."""

from collections.abc import Mapping
from typing import Any, Final

from testbed.doctor.findings import BAD, GOOD, INFO, OWN_NAME, WARNING, Finding

_LEAST_DISK_BYTES: Final = 2 << 30
_LEAST_MEMORY_BYTES: Final = 2 << 30
_LONG_S: Final = 1.0
_MAY_DIFFER: Final = ("python", "transformers", "peft")
_MUST_AGREE: Final = ("torch", "splitfl")


def check_machine(node: str, facts: Mapping[str, Any]) -> list[Finding]:
    """Checks own name, disk, memory, root and TUN."""
    own = facts["own_name"]
    found = [_own_name(node, str(facts["host"]), own)]
    for what, key, least in (
        ("disk", "disk_free_bytes", _LEAST_DISK_BYTES),
        ("memory", "memory_free_bytes", _LEAST_MEMORY_BYTES),
    ):
        state = GOOD if facts[key] >= least else WARNING
        wanted = "" if state == GOOD else f"; less than {least / 2**30:g} GiB may not be enough"
        found.append(
            Finding(node=node, check=what, state=state, detail=f"{facts[key] / 2**30:.1f} GiB free{wanted}")
        )
    rights = "root" if facts["is_root"] else "not root"
    tun = "TUN" if facts["has_tun"] else "no TUN"
    needed = "" if has_overlay(facts) else "; the overlay needs both"
    found.append(Finding(node=node, check="rights", state=INFO, detail=f"{rights}, {tun}{needed}"))
    return found


def check_versions(node: str, facts: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Finding]:
    """Compares versions with the server's: torch and splitfl must agree, others should."""
    got, wanted = facts["versions"], reference["versions"]
    found = []
    for name in (*_MUST_AGREE, *_MAY_DIFFER):
        own, theirs = (_release(name, side[name]) for side in (got, wanted))
        must = name in _MUST_AGREE
        if own is None:
            state, detail = BAD, f"{name} is not installed"
        elif own != theirs:
            state, detail = (BAD if must else WARNING), f"{name} {own}, but the server has {theirs or 'none'}"
        else:
            continue
        found.append(Finding(node=node, check="versions", state=state, detail=detail))
    summary = ", ".join(f"{name} {version}" for name, version in got.items() if version)
    return found or [Finding(node=node, check="versions", state=GOOD, detail=summary)]


def check_clock(node: str, ahead_s: float, within_s: float) -> Finding:
    """Checks the offset of the clock to this machine's, with its uncertainty `within_s`."""
    state = GOOD if abs(ahead_s) <= 1.0 + within_s else WARNING
    why = (
        ""
        if state == GOOD
        else "; certificates may appear expired or not yet valid, and log times do not match"
    )
    detail = f"{ahead_s * 1e3:+.0f} ms (within {within_s * 1e3:.0f} ms){why}"
    return Finding(node=node, check="clock", state=state, detail=detail)


def check_lookup(node: str, took_s: float) -> Finding:
    """Checks the duration of a reverse DNS lookup."""
    if took_s < _LONG_S:
        return Finding(
            node=node, check="lookup", state=GOOD, detail=f"reverse lookups take {took_s * 1e3:.0f} ms"
        )
    detail = (
        f"reverse lookups take {took_s:.1f} s, which delays PyTorch's store: the DNS server in "
        "/etc/resolv.conf does not answer; remove it there, or make it reachable"
    )
    return Finding(node=node, check="lookup", state=WARNING, detail=detail)


def has_overlay(facts: Mapping[str, Any]) -> bool:
    """Whether the overlay can run on this machine."""
    return bool(facts["is_root"] and facts["has_tun"])


def _own_name(node: str, host: str, addresses: list[str]) -> Finding:
    if not addresses:
        detail = f"{host!r}, its own name, has no address; splitfl publishes that of the route to the peer"
        return Finding(node=node, check=OWN_NAME, state=WARNING, detail=detail)
    if all(address.startswith("127.") for address in addresses):
        detail = (
            f"{host!r}, its own name, resolves to {addresses[0]}, which no other machine reaches; "
            "splitfl does not publish it, other programs might"
        )
        return Finding(node=node, check=OWN_NAME, state=WARNING, detail=detail)
    return Finding(node=node, check=OWN_NAME, state=GOOD, detail=f"{host!r} is {', '.join(addresses)}")


def _release(name: str, version: str | None) -> str | None:
    """The relevant part of a version: torch without its build suffix, Python without its patch release."""
    if version is None:
        return None
    if name == "python":
        return ".".join(version.split(".")[:2])
    return version.partition("+")[0]
