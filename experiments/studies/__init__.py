"""Sweeps and studies whose tables are in RESULTS.md."""
