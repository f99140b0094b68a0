"""Whether this machine has an IPv6 loopback, which some containers do not."""

import socket


def has_ipv6() -> bool:
    """Whether something can listen at ::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
