"""Accounting of FLOPs, memory and traffic."""
