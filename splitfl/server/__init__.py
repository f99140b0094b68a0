"""The server's side of a run: service order, exchange, membership, evaluation."""
