"""Runs over a live link with real packets."""
