"""Comparison of methods on the same experiment: entrants, costs and standings."""
