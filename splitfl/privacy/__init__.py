"""Attacks on what a server receives: they measure what it could learn about the clients' data."""
