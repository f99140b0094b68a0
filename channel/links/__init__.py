"""Links between one client and the server: fixed rate, recorded trace, loss processes."""
