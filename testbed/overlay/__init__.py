"""An IP network of its own over one outbound TLS connection a machine, for programs that need open ports."""
