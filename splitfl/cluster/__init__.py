"""A Ray cluster: its connection, the check of its nodes, and clients that its processes simulate."""
