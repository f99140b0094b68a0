"""Transports of frames between processes; the only files that open sockets."""
