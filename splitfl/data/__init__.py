"""What the clients learn from: examples, who owns them, and batches of tokens."""
