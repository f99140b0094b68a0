"""A virtual IP network over one outbound TLS connection per machine, for programs that need open ports."""
