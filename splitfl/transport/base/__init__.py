"""The transport protocol, its specification, addresses, interfaces and versions."""
