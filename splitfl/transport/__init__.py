"""How frames travel between processes; the only files that open sockets."""
