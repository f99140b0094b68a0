"""What runs: the server's station, the clients, and the drivers that bring them together."""
