"""Rows of samples from files, folders, the hub and the standard library."""
