"""Runs over real packets."""
