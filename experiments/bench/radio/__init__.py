"""Benchmarks of the channel."""
