"""Loops that run a federation: simulation in one process, and processes over a transport."""
