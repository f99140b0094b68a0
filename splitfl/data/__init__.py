"""Data sets: examples, their partition over clients, and batches of tokens or images."""
