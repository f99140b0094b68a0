"""Several transports in one run: each client joins over its own."""
