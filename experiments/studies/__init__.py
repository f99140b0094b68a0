"""Sweeps and studies whose tables stand in RESULTS.md."""
