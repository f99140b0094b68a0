"""The transport protocol, addresses and versions."""
