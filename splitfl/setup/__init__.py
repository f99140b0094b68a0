"""Builds the parts of a run from settings."""
